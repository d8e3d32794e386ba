"""The teachers of a distillation: none, one, or several with names; and the data preprocessor for all networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from perception3d.checks import InputError, unknown_name
from perception3d.distill.tap import Tap
from perception3d.distill.teacher import Teacher, copied

_ENTRY = ('network', 'checkpoint', 'mode')


class Teachers:
    """Runs the teachers of a Distiller, and tells from the text of a tap in which of them it lies.

    One teacher has the empty name, and its taps are those of `Tap`. Several have names, and the tap of one begins with
    its name: `depth:neck`.

    Args:
        config: config of one teacher or its network; or name -> dict(network=config or network, checkpoint=path,
            mode='tensor'), which is recognised by its lack of a `type`; None for no teacher.
        checkpoint, mode: of one teacher, see `Teacher`.
        texts: all taps that may be recorded.
        student_preprocessor: config of the student's data preprocessor.

    Raises:
        InputError: a tap without the name of a teacher, or with one that does not exist; an entry that is none.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | nn.Module | None,
        checkpoint: str | None,
        mode: str,
        texts: Iterable[str],
        student_preprocessor: Mapping[str, Any] | None,
    ) -> None:
        self.have_names = isinstance(config, Mapping) and 'type' not in config
        entries: Mapping[str, Any] = {}
        if isinstance(config, Mapping) and self.have_names:
            if checkpoint is not None:
                raise InputError('several teachers have a checkpoint each: set teacher.NAME.checkpoint')
            entries = {str(name): _entry(str(name), entry) for name, entry in config.items()}
            if not entries:
                raise InputError('teacher is an empty dict: expected a model, or name -> dict(network=..)')
        elif config is not None:
            entries = {'': dict(network=config, checkpoint=checkpoint, mode=mode)}
        self._names = list(entries)
        taps: dict[str, list[str]] = {name: [] for name in entries}
        if entries:
            for text in texts:
                name, local = self.split(text)
                taps[name].append(local)
        self._teachers = {
            name: Teacher(
                entry['network'],
                entry.get('checkpoint'),
                taps[name],
                student_preprocessor,
                entry.get('mode', 'tensor'),
                f'teacher.{name}.checkpoint' if name else 'teacher_checkpoint',
            )
            for name, entry in entries.items()
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> Teachers:
        # Copies of a Distiller share its teachers.
        return self

    def __len__(self) -> int:
        return len(self._teachers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._teachers)

    def __getitem__(self, name: str) -> Teacher:
        return self._teachers[name]

    def split(self, text: str) -> tuple[str, str]:
        """Returns the name of the teacher in which a tap lies, and its text there; InputError where there is none."""
        name = Tap(text).network
        if not self.have_names:
            if name:
                raise InputError(f'tap {text!r} names the teacher {name!r}, but the one teacher has no name')
            return '', text
        if not name:
            raise InputError(
                f'tap {text!r} does not say of which teacher: write {self._names[0] + ":" + text!r}; the teachers are '
                f'{", ".join(self._names)}'
            )
        if name not in self._names:
            raise unknown_name('teacher', name, self._names)
        return name, text.removeprefix(f'{name}:')

    def module(self, path: str, device: torch.device) -> nn.Module:
        """Returns the submodule of a teacher at a path, which begins with its name where there are several."""
        name, local = self.split(path)
        found: nn.Module = self._teachers[name].network(device).get_submodule(local)
        return found

    def views(self, given: Mapping[str, Any] | None, student: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """Returns what each teacher gets: its own view of `given` (from `PairPreprocessor`), or the student's."""
        if not self.have_names:
            return {'': given or student}
        return {name: (given or {}).get(name, student) for name in self._names}

    def of_views(self, views: Mapping[str, Mapping[str, Any]], key: str) -> Any:
        """Returns an entry of the view of one teacher, or of several by their names."""
        return {name: view[key] for name, view in views.items()} if self.have_names else views[''][key]

    def run(
        self,
        views: Mapping[str, Mapping[str, Any]],
        device: torch.device,
        texts: Sequence[str],
        to_the_end: bool = False,
    ) -> tuple[Mapping[str, Any], Any]:
        """Runs those teachers in which `texts` lie, or with `to_the_end` the one teacher to its end.

        Returns:
            The taps by their texts, and the output of one teacher, see `Teacher.run`; None of several.
        """
        if not self.have_names:
            view = views['']
            return self._teachers[''].run((view['inputs'], view['data_samples']), device, texts, to_the_end)
        found: dict[str, tuple[Mapping[str, Any], str]] = {}
        local = {text: self.split(text) for text in texts}
        for name in dict.fromkeys(name for name, _ in local.values()):
            batch = views[name]['inputs'], views[name]['data_samples']
            chosen = {text: tap for text, (owner, tap) in local.items() if owner == name}
            records, _ = self._teachers[name].run(batch, device, list(chosen.values()))
            found.update({text: (records, tap) for text, tap in chosen.items()})
        return _NamedRecords(found), None


class _NamedRecords(Mapping[str, Any]):
    """The taps of several teachers by their texts."""

    def __init__(self, found: Mapping[str, tuple[Mapping[str, Any], str]]) -> None:
        self._found = found

    def __getitem__(self, text: str) -> Any:
        if text not in self._found:
            raise unknown_name('tap', text, self._found)
        records, local = self._found[text]
        return records[local]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _entry(name: str, entry: Any) -> Mapping[str, Any]:
    if not name.isidentifier():
        raise InputError(f'teacher {name!r}: expected an identifier as name, since taps begin with it')
    if not isinstance(entry, Mapping) or 'network' not in entry or not set(entry) <= set(_ENTRY):
        got = sorted(entry) if isinstance(entry, Mapping) else type(entry).__name__
        raise InputError(
            f'teacher {name!r}: expected dict(network=config of a model, checkpoint=path), optionally mode, got {got}'
        )
    return entry


class PairPreprocessor(nn.Module):
    """Applies the student's data preprocessor to the batch, and those of teachers to theirs.

    Without a separate view a teacher uses the student's processed batch where both have equal preprocessors, else the
    raw batch through its own data preprocessor, which writes into copies of the samples. A separate view is for all
    teachers. A teacher that a step does not need has no view in it.

    Args:
        student: the student's data preprocessor.
    """

    def __init__(self, student: Any) -> None:
        super().__init__()
        # In a list, because it is already a submodule of the student.
        self._student = [student]
        self.teachers: Teachers | None = None
        self.needed: Callable[[], Collection[str]] = lambda: ()

    def forward(self, data: Any, training: bool = False) -> Any:
        """Returns the processed batch; in training with the entry 'teacher' where a teacher's differs.

        The entry is the batch of the one teacher, or the batches of several by their names.
        """
        student = self._student[0]
        if not isinstance(data, Mapping):
            return student(data, training)
        data = dict(data)
        given = data.pop('teacher', None)
        teachers, batches = self.teachers, {}
        if training and teachers is not None:
            for name in self.needed():
                if given is None and teachers[name].shares_batch:
                    continue
                network = teachers[name].network(student.device)
                view = dict(given) if given is not None else {**data, 'data_samples': copied(data.get('data_samples'))}
                batches[name] = network.data_preprocessor(view, False)
        batch = student(data, training)
        if not batches or teachers is None:
            return batch
        return {**batch, 'teacher': batches if teachers.have_names else batches['']}
