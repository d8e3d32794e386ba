"""Taps: record the outputs or the arguments of submodules during one forward pass of a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from perception3d.checks import InputError, unknown_name
from perception3d.distill.nested import tensors_of

# 'head:input' is the input of a head: a teacher's submodule of the name 'input' cannot be tapped by it.
_GRAMMAR = re.compile(
    r'(?:(?P<network>\w+):(?!input(?:\[|$)))?(?P<path>\w[\w.]*)(?:@(?P<call>\d+))?(?P<input>:input)?'
    r'(?P<keys>(?:\[\w+\])*)'
)


class Tap:
    """One end of a link: a submodule by its dotted path, and which of its outputs or arguments to record.

    | text | records |
    |---|---|
    | `neck_3d` | the output of the submodule `neck_3d` |
    | `bbox_head[0]` | the first of several outputs |
    | `head[heatmap]` | an entry of a dict |
    | `view_transforms.0:input[1]` | the second positional argument |
    | `encoder.stage3@1` | the output of the second call of a module that is called more than once; `@0` is the first |
    | `depth:neck` | with several teachers: the output of `neck` in the teacher `depth` |

    Without `@` the last call in a forward pass counts.

    Args:
        text: what to tap.

    Attributes:
        network: name of the teacher before the colon; empty without one.

    Raises:
        InputError: the text does not have this form.
    """

    def __init__(self, text: str) -> None:
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise InputError(
                f"invalid tap {text!r}: expected 'a.b', 'a.b[0]', 'a.b[key]', 'a.b:input[0]', or for the second call "
                "of a module 'a.b@1', of one of several teachers 'name:a.b'"
            )
        self.text = text
        self.network: str = match['network'] or ''
        self.path: str = match['path']
        self.call = None if match['call'] is None else int(match['call'])
        self.of_input = match['input'] is not None
        keys = re.findall(r'\w+', match['keys'])
        self.keys: list[int | str] = [int(key) if key.isdigit() else key for key in keys]

    def find(self, model: nn.Module) -> nn.Module:
        """Returns the submodule of `model`; InputError names the nearest ones where there is none."""
        try:
            return model.get_submodule(self.path)
        except AttributeError:
            names = (name for name, _ in model.named_modules() if name)
            raise unknown_name(f'submodule of {type(model).__name__}', self.path, names) from None

    def pick(self, value: Any) -> Any:
        """Returns the part of an output or of the arguments that the tap names."""
        for key in self.keys:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError) as error:
                what = f'{type(value).__name__} of {len(value)}' if isinstance(value, (tuple, list, dict)) else 'value'
                raise InputError(f'tap {self.text!r}: the {what} at {self.path} has no [{key}]') from error
        return value

    def not_reached(self, calls: int) -> InputError:
        """Builds the error for a forward pass that called the submodule `calls` times and did not fill the tap."""
        if not calls:
            return InputError(
                f'tap {self.text!r}: the forward pass does not call {self.path}: tap a submodule that it calls'
            )
        if calls == 1:
            assert self.call is not None, 'without a number of the call, one call fills the tap'
            return InputError(
                f'tap {self.text!r}: the forward pass calls {self.path} once, not {self.call + 1} times: '
                f'write {re.sub("@[0-9]+", "", self.text)!r}'
            )
        return InputError(
            f'tap {self.text!r}: the forward pass calls {self.path} {calls} times: expected @0 to @{calls - 1}'
        )


class _AllTapsFilled(Exception):
    """Ends a forward pass whose taps have all been filled."""


class Records(Mapping[str, Any]):
    """What was recorded in one forward pass, by the text of the tap. Read only.

    Raises:
        InputError: on reading a value that a later in-place operation has overwritten, in whole or in part.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._versions: dict[str, list[int]] = {}

    def record(self, tap: Tap, value: Any) -> None:
        """Keeps the value of a tap, and how often its memory has been written to so far."""
        self._values[tap.text] = value
        self._versions[tap.text] = _versions(value)

    def __getitem__(self, text: str) -> Any:
        if text not in self._values:
            raise unknown_name('tap', text, self._values)
        value = self._values[text]
        if _versions(value) != self._versions[text]:
            raise InputError(
                f'tap {text!r}: the next operation, such as an in-place ReLU, has overwritten this output: '
                'tap the module around it, or set inplace=False'
            )
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _versions(value: Any) -> list[int]:
    """How often the memory of each tensor has been written to."""
    return [tensor._version for tensor in tensors_of(value) if not tensor.is_inference()]


class TapSet:
    """The taps of one network. Its forward hooks are registered only inside `record`.

    Args:
        model: the network.
        texts: its taps; duplicates count once.

    Raises:
        InputError: a path that the network does not have, which names the nearest ones; or a tap with the name of a
            network, which only one of several teachers has.
    """

    def __init__(self, model: nn.Module, texts: Iterable[str]) -> None:
        self.model = model
        self.taps = {text: Tap(text) for text in texts}
        for tap in self.taps.values():
            if tap.network:
                raise InputError(
                    f'tap {tap.text!r} names the network {tap.network!r}: only one of several teachers has a name, '
                    'see `teacher` of the Distiller'
                )
            tap.find(model)
        self._calls: dict[str, int] = {}

    @contextmanager
    def record(self, texts: Iterable[str] | None = None, stop_early: bool = False) -> Iterator[Records]:
        """Fills Records during the forward pass inside the block, with all taps or those of `texts`.

        With `stop_early` the pass ends as soon as the last of them is filled. The first pass with a tap without call
        index runs to its end, to learn whether the module is called just once; if not, all passes do.

        Raises:
            InputError: the forward pass did not call a tapped submodule, or not as often as its tap says.
        """
        chosen = [self.taps[text] for text in (self.taps if texts is None else dict.fromkeys(texts))]
        records, calls = Records(), dict.fromkeys((tap.text for tap in chosen), 0)
        may_stop = stop_early and all(tap.call is not None or self._calls.get(tap.text) == 1 for tap in chosen)

        def called(tap: Tap, value: Any) -> None:
            call = calls[tap.text]
            calls[tap.text] += 1
            if tap.call is None or tap.call == call:
                records.record(tap, tap.pick(value))
            if may_stop and len(records) == len(chosen):
                raise _AllTapsFilled

        # Found again each time: a wrapper may have replaced modules, as the conversion to SyncBN does.
        handles = [_hook(tap.find(self.model), tap, called) for tap in chosen]
        try:
            yield records
        except _AllTapsFilled:
            return
        finally:
            for handle in handles:
                handle.remove()
        filled = set(records)
        for tap in chosen:
            if tap.text not in filled:
                raise tap.not_reached(calls[tap.text])
        self._calls.update(calls)


def _hook(module: nn.Module, tap: Tap, called: Callable[[Tap, Any], None]) -> RemovableHandle:
    if tap.of_input:
        return module.register_forward_pre_hook(lambda _, args: called(tap, args))
    return module.register_forward_hook(lambda _, args, output: called(tap, output))
