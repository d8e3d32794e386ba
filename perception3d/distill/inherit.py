"""Weight inheriting: a student begins with what it can take over from its teacher.

Part (c) of structured distillation for camera detectors (arXiv 2211.08398). The paper's text is not public: which
tensors are taken, sliced and resized is our formulation. Narrower layers keep the teacher's most important channels, as
SparseKD (arXiv 2205.15156) does for LiDAR detectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError, unknown_name

_ENDS = ('out', 'into', 'folded')
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass
class InheritReport:
    """What became of every tensor of the student: its name under the way in which it was set.

    `share` is the fraction of the student's parameters (not buffers) whose first values are the teacher's.
    """

    copied: list[str] = field(default_factory=list)
    sliced: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    share: float = 0.0

    def __str__(self) -> str:
        listed = ', '.join(self.own[:4]) + (', ...' if len(self.own) > 4 else '')
        own = f'; {len(self.own)} its own ({listed})' if self.own else ''
        return (
            f"{self.share:.1%} of the student's parameters inherited: {len(self.copied)} tensors copied, "
            f'{len(self.sliced)} sliced, {len(self.resized)} resized{own}'
        )


class WeightInheritance:
    """Sets a student's weights from its teacher's wherever they fit, or can be made to fit.

    Tensors of equal name and shape are copied. Where the student is narrower, `widths` says which modules share a set
    of channels; the channels with the largest sum of |gamma| of the batch norms among them are kept (without a norm:
    the largest L1 norm of the filters), and all consumers are sliced by the same indices. A consumer that reads a
    multiple of the set (stacked frames, heights or levels, channels fastest) is sliced in every copy. Sets that are
    concatenated for one consumer are one set: name all their makers in `out`.

    Args:
        widths: dicts of `out`, names of modules that make the channels, and `into`, names of those that read them.
            '{i}' in a name stands for any text without dots: one set of channels for each match of the first name.
            `folded`, where given, names modules that read every channel as several in a row (channels slowest), as
            behind a sparse encoder whose heights become channels.
        depths: names of sequences of blocks of which the student has fewer: it gets every (n_T / n_S)-th, the last of
            each group, such as blocks 1, 3, 5 of six for three.
        resize: for embeddings of a grid, such as BEV queries (H*W, C): name -> ((H, W) of the teacher, of the student).
            Bicubic. Both grids must cover the same metres, so that a cell takes what lay at its place: the networks
            are not asked for their ranges. An embedding of one axis is a grid of one column, ((H, 1), (H', 1)).
        frames: for modules that read stacked moments (heights and levels outermost, then frames, then channels):
            name -> dict(teacher=frames, student=frames, channels=of a frame). The newest, which come first, are kept.
        rename: prefix of names in the student -> prefix in the teacher, where they differ.
        skip: patterns (fnmatch) of tensors that stay as the student was initialised.
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
                raise InputError(f"a set of widths has the keys 'out' and 'into', maybe 'folded', got {sorted(group)}")
        if widths and (depths or rename):
            raise InputError('weight inheriting: widths need equal names, they do not go with depths or rename')
        self.widths, self.depths = tuple(widths), tuple(depths)
        self.resize, self.frames = dict(resize or {}), dict(frames or {})
        self.rename, self.skip = dict(rename or {}), tuple(skip)

    @torch.no_grad()
    def apply(self, student: nn.Module, teacher: nn.Module) -> InheritReport:
        """Writes into `student` in place and returns what came from where.

        Raises:
            InputError: a rule names what the networks do not have, or sizes that do not fit together.
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
        """Refuses rules that name what is not there: they would be without effect."""
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
        """The tensor to copy into `name`, and how it was made; None where there is none."""
        theirs = self._teacher_name(name, student, teacher)
        if any(fnmatch(name, pattern) for pattern in self.skip) or theirs not in source:
            return None, 'own'
        value, how = source[theirs], 'copied'
        if name in self.resize:
            return _resized(name, value, target, *self.resize[name]), 'resized'
        module = theirs.rpartition('.')[0]
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
        for mine, theirs in self.rename.items():
            if name.startswith(mine):
                name = theirs + name.removeprefix(mine)
                break
        for blocks in self.depths:
            match = re.fullmatch(re.escape(blocks) + r'\.(\d+)\.(.+)', name)
            if match:
                have, want = (len(_submodule(net, blocks)) for net in (teacher, student))
                number = (int(match[1]) + 1) * have // want - 1
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

    Of names with a placeholder those that a match lacks are left out, such as the shortcut of a block without one;
    `_check_rules` has refused plain names that do not exist.
    """
    pattern = re.sub(r'\\\{(\w+)\\\}', r'(?P<\1>[^.]+)', re.escape(group['out'][0]))
    matches = [match.groupdict() for name in names if (match := re.fullmatch(pattern, name))]
    if not matches:
        raise InputError(f'weight inheriting: no submodule of the teacher is called {group["out"][0]!r}')
    present = set(names)
    return [
        {key: [name for text in group[key] if (name := text.format(**match)) in present] for key in group}
        for match in matches
    ]


def _axis(module: nn.Module, end: str) -> int:
    """The axis of a layer's weight that holds the channels it makes ('out') or reads."""
    first = 1 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 0
    if end == 'out':
        return first
    # Sparse convolutions of spconv 2 keep their weights as (out, kernel z, y, x, in).
    return -1 if hasattr(module, 'indice_key') else 1 - first


def _filters(module: nn.Module, name: str) -> Tensor:
    """The weight (C, ...) with the channels that a layer makes on its first axis."""
    weight = getattr(module, 'weight', None)
    if weight is None:
        raise InputError(f'weight inheriting: {name} has no weight: name convolutions, linear layers and norms')
    return weight.transpose(0, _axis(module, 'out'))


def _importance(modules: Sequence[nn.Module], names: Sequence[str]) -> Tensor:
    """How much each channel (C,) counts: sum of |gamma| of the norms, without one the L1 norm of the filters."""
    norms = [module for module in modules if isinstance(module, _NORMS)]
    filters = [_filters(module, name).abs() for module, name in zip(modules, names)]
    scores = [m.weight.abs() for m in norms] or [x.flatten(1).sum(1) for x in filters]
    if len({score.shape for score in scores}) != 1:
        raise InputError(f'weight inheriting: {", ".join(names)} do not have the same number of channels')
    return torch.stack(scores).sum(0)


def _sliced(value: Tensor, axis: int, kept: Tensor, wanted: int, folded: bool) -> Tensor:
    """Keeps channels of one axis; where it holds several copies of the set, or of each channel, those of each."""
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
            f'weight inheriting: {name} reads {value.shape[1]} channels, which are not {teacher} frames of {channels}, '
            f'or {student} of them cannot be kept'
        )
    return value.unflatten(1, (-1, teacher, channels))[:, :, :student].flatten(1, 3)


def _resized(name: str, value: Tensor, target: Tensor, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """Resizes an embedding (H*W, C) of a grid bicubically; the grids cover the same metres."""
    sizes = (from_hw[0] * from_hw[1], to_hw[0] * to_hw[1])
    if (value.shape[0], target.shape[0]) != sizes or value.shape[1:] != target.shape[1:]:
        raise InputError(
            f'weight inheriting: {name} is {tuple(value.shape)} and {tuple(target.shape)}, which is not a resize '
            f'from {tuple(from_hw)} to {tuple(to_hw)}'
        )
    grid = value.T.reshape(1, -1, *from_hw)
    return F.interpolate(grid, tuple(to_hw), mode='bicubic', align_corners=False).flatten(2)[0].T


def build_inheritance(settings: WeightInheritance | Mapping[str, Any] | bool | None) -> WeightInheritance | None:
    """Returns the inheritance that a config asks for: True for plain copies, or the arguments of WeightInheritance."""
    if settings is None or settings is False:
        return None
    if isinstance(settings, WeightInheritance):
        return settings
    return WeightInheritance() if settings is True else WeightInheritance(**settings)
