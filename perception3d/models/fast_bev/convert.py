"""Weights of others for our Fast-BEV: names, and the box convention of the released head.

Three kinds of source are known: an ImageNet ResNet (backbone only), a 2D detector of mmdetection trained on nuImages
(its backbone only: its pyramid has 256 channels, ours 64), and a released Fast-BEV checkpoint (everything).

The released head regresses (w, l, h) and a clockwise yaw. With the anchors of `anchors.py` its outputs mean the same as
ours once the log ratios of w and l change places and the yaw changes sign; classes and direction bins stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

CODE_SIZE = 9
_NATIVE_ORDER = (0, 1, 2, 4, 3, 5, 6, 7, 8)
_NATIVE_SIGN = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0, 1.0)

KINDS = ('imagenet', 'nuimages', 'fastbev')


@dataclass
class Conversion:
    """What became of each tensor of a source.

    Attributes:
        state: our names to tensors, only what fits.
        unused: source names that have no place in our model.
        missing: our names (of the expected part) that the source does not fill.
        mismatched: our name, shape found, shape expected.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)


def regression_between_conventions(weight: Tensor) -> Tensor:
    """Weight (A*9, C, 1, 1) or bias (A*9,) of the regression layer in the other box convention; its own inverse."""
    codes = weight.unflatten(0, (-1, CODE_SIZE))[:, list(_NATIVE_ORDER)]
    sign = codes.new_tensor(_NATIVE_SIGN).view(1, CODE_SIZE, *[1] * (codes.dim() - 2))
    return (codes * sign).flatten(0, 1)


def strip_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a checkpoint under their plain names: prefixes of wrappers ('module.', 'model.') are taken off."""
    plain = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            plain[re.sub(r'^(module\.|model\.)+', '', name)] = value
    return plain


def guess_kind(state: Mapping[str, Tensor]) -> str | None:
    """One of KINDS by the names in a plain state dict; None if it is none of them."""
    if any(name.startswith('neck_3d.') for name in state):
        return 'fastbev'
    if any(name.startswith(('rpn_head.', 'roi_head.')) for name in state):
        return 'nuimages'
    if 'conv1.weight' in state or 'backbone.conv1.weight' in state:
        return 'imagenet'
    return None


def our_name(name: str, kind: str) -> str | None:
    """Our name of a source tensor; None if the kind of source has nothing for us under that name."""
    if kind == 'imagenet':
        name = name.removeprefix('backbone.')
        return None if name.startswith('fc.') else f'backbone.{name}'
    if kind == 'nuimages':
        return name if name.startswith('backbone.') else None
    name = re.sub(r'^neck_fuse_(\d+)\.', r'neck_fuse.convs.\1.', name)
    return re.sub(r'^neck_fuse\.(weight|bias)$', r'neck_fuse.convs.0.\1', name)


def convert_state(source: Mapping[str, Tensor], kind: str, wanted: Mapping[str, Tensor]) -> Conversion:
    """Fits a source's tensors to the state dict `wanted` of our model.

    `missing` lists parameters of the part that the kind should fill (the backbone, or everything); counters of batch
    norm (num_batches_tracked) and weights that the source does not carry in any version are never asked for.
    """
    change: Callable[[str, Tensor], Tensor] = _fastbev_tensor if kind == 'fastbev' else _same
    result = Conversion()
    for name, value in strip_wrappers(source).items():
        ours = our_name(name, kind)
        if ours is None or ours not in wanted:
            result.unused.append(name)
        elif tuple(value.shape) != tuple(wanted[ours].shape):
            result.mismatched.append((ours, tuple(value.shape), tuple(wanted[ours].shape)))
        else:
            result.state[ours] = change(ours, value).to(wanted[ours].dtype)
    prefix = '' if kind == 'fastbev' else 'backbone.'
    touched = set(result.state) | {name for name, _, _ in result.mismatched}
    expected = (n for n in wanted if n.startswith(prefix) and not n.endswith('num_batches_tracked'))
    result.missing = [n for n in expected if n not in touched]
    return result


def _same(name: str, value: Tensor) -> Tensor:
    return value


def _fastbev_tensor(name: str, value: Tensor) -> Tensor:
    if re.fullmatch(r'bbox_head\.conv_reg\.(weight|bias)', name):
        return regression_between_conventions(value)
    return value


def fingerprint(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that tell Fast-BEV variants apart, under our names; from a source or from our model."""
    telling = ('neck_3d.fuse.weight', 'neck_3d.model.1.conv.weight', 'backbone.layer4.0.conv1.weight')
    shapes = {our_name(name, 'fastbev'): tuple(value.shape) for name, value in strip_wrappers(state).items()}
    found = {name: shapes[name] for name in telling if name in shapes}
    blocks = {int(m.group(1)) for n in shapes if (m := re.match(r'neck_3d\.model\.(\d+)\.', n or ''))}
    stages = {int(m.group(1)) for n in shapes if (m := re.match(r'backbone\.layer3\.(\d+)\.', n or ''))}
    deep = ('backbone.layer1.0.conv3.weight' in shapes,)
    levels = tuple(sorted(int(n.split('.')[2]) for n in shapes if n and re.match(r'neck_fuse\.convs\.\d+\.weight', n)))
    return {**found, 'blocks': (len(blocks),), 'stages': (len(stages),), 'bottleneck': deep, 'levels': levels}


def joined_checkpoint(conversion: Conversion, kind: str, source: str) -> dict:
    """The checkpoint that training and testing load: {'state_dict', 'meta'}."""
    return {'state_dict': {k: v.clone() for k, v in conversion.state.items()}, 'meta': {'from': source, 'kind': kind}}
