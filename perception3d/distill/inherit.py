"""Weight inheriting: initialises a student with weights of its teacher.

Part (c) of structured distillation for camera detectors (arXiv 2211.08398). The paper's text is not public: which
tensors are copied, sliced and resized is our formulation. Narrower layers keep the teacher's most important channels,
as SparseKD (arXiv 2205.15156) does for LiDAR detectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError, unknown_name

_ENDS = ('out', 'into', 'folded')
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass
class InheritReport:
    """How every tensor of the student was initialised.

    Attributes:
        copied, sliced, resized: names of tensors that come from the teacher, by how they were made.
        own: names of tensors that keep the student's initialisation.
        share: fraction of the student's parameters (buffers not counted) that come from the teacher.
    """

    copied: list[str] = field(default_factory=list)
    sliced: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    share: float = 0.0

    def __str__(self) -> str:
        listed = ', '.join(self.own[:4]) + (', ...' if len(self.own) > 4 else '')
        own = f'; {len(self.own)} not inherited ({listed})' if self.own else ''
        return (
            f"{self.share:.1%} of the student's parameters inherited: {len(self.copied)} tensors copied, "
            f'{len(self.sliced)} sliced, {len(self.resized)} resized{own}'
        )


class WeightInheritance:
    """Sets a student's weights from its teacher's wherever they fit, or can be sliced or resized to fit.

    Tensors of equal name and shape are copied. Where the student is narrower, `widths` says which modules share a set
    of channels; the channels with the largest sum of |gamma| of the batch norms among them are kept (without a norm:
    the largest L1 norm of the filters), and all modules that read them are sliced by the same indices. A module that
    reads a multiple of the set (stacked frames, heights or levels, channels fastest) is sliced in every copy. Sets that
    are concatenated for one reader are one set: name all modules that produce them in `out`.

    Args:
        widths: dicts of `out`, names of modules that produce the channels, and `into`, names of those that read them.
            '{i}' in a name stands for any text without dots: one set of channels for each match of the first name.
            `folded`, optional, names modules that read every channel as several in a row (channels slowest), as
            after a sparse encoder whose heights become channels.
        depths: names of sequences of blocks of which the student has fewer: it gets every (n_T / n_S)-th, the last of
            each group, such as blocks 1, 3, 5 of six for three.
        resize: for embeddings of a grid, such as BEV queries (H*W, C): name -> ((H, W) of the teacher, of the student).
            Bicubic. Both grids must cover the same area in metres; this is not checked. An embedding of one axis is a
            grid of one column, ((H, 1), (H', 1)).
        frames: for modules that read stacked frames (heights and levels outermost, then frames, then channels):
            name -> dict(teacher=frames, student=frames, channels=of a frame). The newest, which come first, are kept.
        rename: prefix of names in the student -> prefix in the teacher, where they differ.
        skip: patterns (fnmatch) of tensors that keep the student's initialisation.
    """

    def __init__(
        self,
        widths: Sequence[Mapping[str, Sequence[str]]] = (),
        depths: Sequence[str] = (),
        resize: Mapping[str, tuple[tuple[int, int], tuple[int, int]]] | None = None,
        frames: Mapping[str, Mapping[str, int]] | None = None,
        rename: Mapping[str, str] | None = None,
        skip: Sequence[str] = (),
    ) -> None:
        for group in widths:
            if set(group) - {'folded'} != {'out', 'into'} or not group['out']:
                raise InputError(
                    "invalid set of widths: expected the keys 'out' (not empty), 'into' and optionally 'folded', got "
                    f'{sorted(group)}'
                )
        if widths and (depths or rename):
            raise InputError(
                'weight inheriting: widths need equal names in both networks: they cannot be combined with depths or '
                'rename'
            )
        self.widths, self.depths = tuple(widths), tuple(depths)
        self.resize, self.frames = dict(resize or {}), dict(frames or {})
        self.rename, self.skip = dict(rename or {}), tuple(skip)

    @torch.no_grad()
    def apply(self, student: nn.Module, teacher: nn.Module) -> InheritReport:
        """Sets the weights of `student` in place and returns how each tensor was initialised.

        Raises:
            InputError: a rule names a tensor or module that the networks do not have, or sizes that do not fit.
        """
        self._check_rules(student, teacher)
        kept = self._kept_channels(student, teacher)
        source, report = teacher.state_dict(), InheritReport()
        parameters = dict(student.named_parameters())
        inherited = 0
        for name, target in student.state_dict().items():
            value, how = self._value(name, target, source, kept, student, teacher)
            if value is None:
                report.own.append(name)
                continue
            target.copy_(value)
            getattr(report, how).append(name)
            inherited += target.numel() if name in parameters else 0
        total = sum(parameter.numel() for parameter in parameters.values())
        report.share = inherited / max(total, 1)
        return report

    def _check_rules(self, student: nn.Module, teacher: nn.Module) -> None:
        """Refuses rules that name a tensor or module that does not exist: they would have no effect."""
        names = list(student.state_dict())
        modules = {name for name, _ in teacher.named_modules()}
        for name in self.resize:
            if name not in names:
                raise unknown_name('tensor to resize', name, names)
        for pattern in self.skip:
            if not any(fnmatch(name, pattern) for name in names):
                raise unknown_name('tensor to skip', pattern, names)
        for prefix in self.rename:
            if not any(name.startswith(prefix) for name in names):
                raise unknown_name('prefix to rename', prefix, names)
        written = [name for group in self.widths for key in group for name in group[key] if '{' not in name]
        for name in (*self.depths, *self.frames, *written):
            if name not in modules:
                raise unknown_name('submodule of the teacher in a rule of weight inheriting', name, modules)

    def _value(
        self,
        name: str,
        target: Tensor,
        source: Mapping[str, Tensor],
        kept: Mapping[tuple[str, str], Tensor],
        student: nn.Module,
        teacher: nn.Module,
    ) -> tuple[Tensor | None, str]:
        """The tensor to copy into `name` and how it was made; None where the teacher has none that fits."""
        teacher_name = self._teacher_name(name, student, teacher)
        if any(fnmatch(name, pattern) for pattern in self.skip) or teacher_name not in source:
            return None, 'own'
        value, how = source[teacher_name], 'copied'
        if name in self.resize:
            return _resized(name, value, target, *self.resize[name]), 'resized'
        module = teacher_name.rpartition('.')[0]
        if module in self.frames and value.ndim > 1 and value.shape != target.shape:
            value, how = _newest_frames(module, value, **self.frames[module]), 'sliced'
        for end in _ENDS if value.ndim > 1 else _ENDS[: value.ndim]:
            index = kept.get((module, end))
            if index is None:
                continue
            axis = _axis(_submodule(teacher, module), end) if value.ndim > 1 else 0
            if value.shape[axis] != target.shape[axis]:
                value, how = _sliced(value, axis, index, target.shape[axis], end == 'folded'), 'sliced'
        return (value, how) if value.shape == target.shape else (None, 'own')

    def _teacher_name(self, name: str, student: nn.Module, teacher: nn.Module) -> str:
        for student_prefix, teacher_prefix in self.rename.items():
            if name.startswith(student_prefix):
                name = teacher_prefix + name.removeprefix(student_prefix)
                break
        for blocks in self.depths:
            match = re.fullmatch(re.escape(blocks) + r'\.(\d+)\.(.+)', name)
            if match:
                depth, student_depth = (len(cast(Sized, _submodule(net, blocks))) for net in (teacher, student))
                number = (int(match[1]) + 1) * depth // student_depth - 1
                name = f'{blocks}.{number}.{match[2]}'
        return name

    def _kept_channels(self, student: nn.Module, teacher: nn.Module) -> dict[tuple[str, str], Tensor]:
        """For (module, key of a rule) the teacher's channels (k,) that the student keeps, ascending."""
        channels: dict[tuple[str, str], Tensor] = {}
        names = [name for name, _ in teacher.named_modules()]
        for group in self.widths:
            for rule in _expanded(group, names):
                out = rule['out']
                width = len(_filters(_submodule(student, out[0]), out[0]))
                modules = [_submodule(teacher, name) for name in out]
                if width >= len(_filters(modules[0], out[0])):
                    continue
                kept = _importance(modules, out).topk(width).indices.sort().values
                channels.update({(name, end): kept for end in rule for name in rule[end]})
        return channels


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise InputError(f'weight inheriting: {type(model).__name__} has no submodule {name!r}') from error


def _expanded(group: Mapping[str, Sequence[str]], names: Sequence[str]) -> list[dict[str, list[str]]]:
    """The modules of every set of channels of a rule by its keys, one for each match of its first name.

    Names with a placeholder may be missing for some matches, such as the shortcut of a block without one: they are left
    out. `_check_rules` has refused plain names that do not exist.
    """
    pattern = re.sub(r'\\\{(\w+)\\\}', r'(?P<\1>[^.]+)', re.escape(group['out'][0]))
    matches = [match.groupdict() for name in names if (match := re.fullmatch(pattern, name))]
    if not matches:
        raise InputError(f'weight inheriting: no submodule of the teacher matches {group["out"][0]!r}')
    present = set(names)
    return [
        {key: [name for text in group[key] if (name := text.format(**match)) in present] for key in group}
        for match in matches
    ]


def _axis(module: nn.Module, end: str) -> int:
    """The axis of a layer's weight that holds the channels it produces ('out') or reads."""
    first = 1 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 0
    if end == 'out':
        return first
    # Sparse convolutions of spconv 2 keep their weights as (out, kernel z, y, x, in).
    return -1 if hasattr(module, 'indice_key') else 1 - first


def _filters(module: nn.Module, name: str) -> Tensor:
    """The weight (C, ...) with the channels that a layer produces on its first axis."""
    weight = getattr(module, 'weight', None)
    if weight is None:
        raise InputError(f'weight inheriting: {name} has no weight: expected convolutions, linear layers and norms')
    return weight.transpose(0, _axis(module, 'out'))


def _importance(modules: Sequence[nn.Module], names: Sequence[str]) -> Tensor:
    """Importance (C,) of each channel: sum of |gamma| of the norms, or without norms the L1 norm of the filters."""
    norms = [module for module in modules if isinstance(module, _NORMS)]
    filters = [_filters(module, name).abs() for module, name in zip(modules, names)]
    scores = [m.weight.abs() for m in norms] or [x.flatten(1).sum(1) for x in filters]
    if len({score.shape for score in scores}) != 1:
        raise InputError(f'weight inheriting: {", ".join(names)} do not have the same number of channels')
    return torch.stack(scores).sum(0)


def _sliced(value: Tensor, axis: int, kept: Tensor, wanted: int, folded: bool) -> Tensor:
    """Keeps channels of one axis; with several copies of the set, or of each channel, those of every copy."""
    copies, rest = divmod(wanted, len(kept))
    if rest or copies < 1 or value.shape[axis] % copies or value.shape[axis] // copies <= int(kept.max()):
        return value
    width = value.shape[axis] // copies
    copy = torch.arange(copies, device=kept.device)
    index = (kept[:, None] * copies + copy if folded else copy[:, None] * width + kept).flatten()
    return value.index_select(axis, index.to(value.device))


def _newest_frames(name: str, value: Tensor, teacher: int, student: int, channels: int) -> Tensor:
    """Keeps the filters (N, copies * frames * channels, ...) of the newest `student` frames."""
    if value.shape[1] % (teacher * channels) or not 0 < student <= teacher:
        raise InputError(
            f'weight inheriting: {name} reads {value.shape[1]} channels: expected a multiple of {teacher} frames x '
            f'{channels} channels, and 1 to {teacher} frames for the student, got {student}'
        )
    return value.unflatten(1, (-1, teacher, channels))[:, :, :student].flatten(1, 3)


def _resized(name: str, value: Tensor, target: Tensor, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """Resizes an embedding (H*W, C) of a grid bicubically; both grids cover the same area."""
    sizes = (from_hw[0] * from_hw[1], to_hw[0] * to_hw[1])
    if (value.shape[0], target.shape[0]) != sizes or value.shape[1:] != target.shape[1:]:
        raise InputError(
            f'weight inheriting: {name} has the shape {tuple(value.shape)} in the teacher and {tuple(target.shape)} in '
            f'the student: they are not embeddings of the grids {tuple(from_hw)} and {tuple(to_hw)}'
        )
    grid = value.T.reshape(1, -1, *from_hw)
    return F.interpolate(grid, tuple(to_hw), mode='bicubic', align_corners=False).flatten(2)[0].T


def build_inheritance(settings: WeightInheritance | Mapping[str, Any] | bool | None) -> WeightInheritance | None:
    """Returns the inheritance that a config describes: True for copies only, or the arguments of WeightInheritance."""
    if settings is None or settings is False:
        return None
    if isinstance(settings, WeightInheritance):
        return settings
    return WeightInheritance() if settings is True else WeightInheritance(**settings)
