"""Weights of others for our Fast-BEV: names, and the box convention of the released head.

Three kinds of source: an ImageNet ResNet (backbone only), a 2D detector of mmdetection trained on nuImages
(its backbone only: its pyramid has 256 channels, ours 64), and a released Fast-BEV checkpoint (everything).

The released head regresses (w, l, h) and a clockwise yaw. With the anchors of `anchors.py` its outputs mean the same as
ours once the log ratios of w and l change places and the yaw changes sign; classes and direction bins stay.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from perception3d.checks import InputError, unknown_name
from perception3d.models.fast_bev.anchors import AnchorGrid
from perception3d.structures.conversion import Conversion

CODE_SIZE = 9
_NATIVE_ORDER = (0, 1, 2, 4, 3, 5, 6, 7, 8)
_NATIVE_SIGN = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0, 1.0)

KINDS = ('imagenet', 'nuimages', 'fastbev')


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
    """Returns one of KINDS by the names in a plain state dict; None if no kind has such names."""
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
    # The released code numbers the modules neck_fuse_0, neck_fuse_1, ...; its older models have a single neck_fuse.
    name = re.sub(r'^neck_fuse_(\d+)\.', r'neck_fuse.convs.\1.', name)
    return re.sub(r'^neck_fuse\.(weight|bias)$', r'neck_fuse.convs.0.\1', name)


def convert_state(source: Mapping[str, Tensor], kind: str, wanted: Mapping[str, Tensor]) -> Conversion:
    """Fits a source's tensors to the state dict `wanted` of our model.

    `missing` lists tensors of the part that the kind should fill: the backbone, or everything for 'fastbev'.
    """
    result = Conversion(kind=kind)
    for name, value in strip_wrappers(source).items():
        ours = our_name(name, kind)
        if ours is None or ours not in wanted:
            result.unused.append(name)
        elif tuple(value.shape) != tuple(wanted[ours].shape):
            result.mismatched.append((ours, tuple(value.shape), tuple(wanted[ours].shape)))
        else:
            if kind == 'fastbev' and ours.startswith('bbox_head.conv_reg.'):
                value = regression_between_conventions(value)
            result.state[ours] = value.to(wanted[ours].dtype)
    part = [name for name in wanted if name.startswith('' if kind == 'fastbev' else 'backbone.')]
    touched = set(result.state) | {name for name, _, _ in result.mismatched}
    for name in (name for name in part if name not in touched):
        if name.endswith('num_batches_tracked'):
            # Files from before torch 0.4.1 have no such counter, and only momentum=None would read it.
            result.state[name] = wanted[name].new_zeros(())
        else:
            result.missing.append(name)
    return result


class Variant(NamedTuple):
    """What tells the published Fast-BEV models apart in their weights.

    Attributes:
        backbone: name of the ResNet, such as 'ResNet-18'.
        fuse: (out, in) channels of the 1x1 convolution after the lift; in = 64 * frames * heights * scales.
        encoder: (output channels, residual blocks after the stride) of the BEV encoder.
        levels: image pyramid levels that are lifted.
    """

    backbone: str
    fuse: tuple[int, int]
    encoder: tuple[int, int]
    levels: tuple[int, ...]


PUBLISHED = {
    'M0 or M1': Variant('ResNet-18', (256, 1024), (192, 2), (0,)),
    'M0 with one frame': Variant('ResNet-18', (256, 256), (192, 2), (0,)),
    'M2': Variant('ResNet-34', (256, 1024), (224, 4), (0,)),
    'M3': Variant('ResNet-34', (384, 1536), (256, 6), (0,)),
    'M4 or M5': Variant('ResNet-50', (384, 1536), (256, 6), (0,)),
    'R50 multi-scale (v4)': Variant('ResNet-50', (256, 4608), (256, 6), (0, 1, 2)),
}


def backbone_name(names: Collection[str]) -> str:
    """'ResNet-N' from the tensor names of a backbone (with or without the prefix 'backbone.'); 'unknown' otherwise."""
    plain = {name.removeprefix('backbone.') for name in names}
    blocks = len({name.split('.')[1] for name in plain if name.startswith('layer3.')})
    bottleneck = any(name.startswith('layer1.0.conv3') for name in plain)
    depth = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}.get((blocks, bottleneck))
    return f'ResNet-{depth}' if depth else 'unknown'


def describe(state: Mapping[str, Tensor]) -> Variant:
    """The variant that a released checkpoint or a state dict of ours holds; zeros for parts that it lacks."""
    named = ((our_name(name, 'fastbev'), value) for name, value in strip_wrappers(state).items())
    shapes = {name: tuple(value.shape) for name, value in named if name is not None}
    blocks = {name.split('.')[2] for name in shapes if re.match(r'neck_3d\.model\.\d+\.conv0\.', name)}
    levels = sorted(int(name.split('.')[2]) for name in shapes if re.match(r'neck_fuse\.convs\.\d+\.weight', name))
    fuse = shapes.get('neck_3d.fuse.weight', (0, 0))
    return Variant(
        backbone=backbone_name([name for name in shapes if name.startswith('backbone.')]),
        fuse=(fuse[0], fuse[1]),
        encoder=(shapes.get('neck_3d.model.1.conv.weight', (0,))[0], max(len(blocks) - 1, 0)),
        levels=tuple(levels),
    )


def variant_name(variant: Variant) -> str:
    """Name of a published variant, or a description of another one."""
    for name, published in PUBLISHED.items():
        if published == variant:
            return name
    return f'{variant.backbone}, {variant.fuse[1]} channels lifted, encoder {variant.encoder[0]}x{variant.encoder[1]}'


def convert_for(model: nn.Module, state: Mapping[str, Tensor], kind: str | None = None) -> Conversion:
    """Fits the tensors of a checkpoint to a Fast-BEV model, or to its backbone alone for ImageNet and nuImages.

    Args:
        model: the detector; it is not changed.
        state: names to tensors of the source.
        kind: one of KINDS; recognised by the names when None.

    Raises:
        InputError: the kind is unknown, or the source is of another variant than the model.
    """
    plain = strip_wrappers(state)
    kind = kind or guess_kind(plain)
    if kind is None:
        raise InputError(
            'the file is not an ImageNet ResNet, a nuImages detector or a Fast-BEV checkpoint (its first tensors: '
            f'{", ".join(list(plain)[:3]) or "none"}): name its kind with --kind {"|".join(KINDS)}'
        )
    if kind not in KINDS:
        raise unknown_name('kind of weights', kind, KINDS)
    wanted = model.state_dict()
    result = convert_state(plain, kind, wanted)
    if not result.state or result.missing or result.mismatched:
        raise InputError(_difference(result, plain, wanted))
    if kind == 'fastbev':
        _require_released_anchors(model)
    return result


def _difference(result: Conversion, plain: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Returns how the variant of the source differs from that of the model."""
    if result.kind == 'fastbev':
        holds, needs = (variant_name(describe(state)) for state in (plain, wanted))
        advice = 'choose the config of that variant'
    else:
        names = [our_name(name, result.kind) or '' for name in plain]
        holds, needs = (backbone_name([n for n in part if n.startswith('backbone.')]) for part in (names, wanted))
        advice = 'choose weights of the same backbone'
    differ = [f'{name} is {shape}, expected {expected}' for name, shape, expected in result.mismatched[:2]]
    differ += [f'{name} is missing' for name in result.missing[: 2 - len(differ)]]
    return (
        f'the file holds {holds}, the config is {needs} ({len(result.mismatched)} tensors of another shape, '
        f'{len(result.missing)} missing: {"; ".join(differ)}); {advice}'
    )


def _require_released_anchors(model: nn.Module) -> None:
    head: Any = model.bbox_head
    ours, released = head.grid, AnchorGrid()
    for name in ('sizes', 'rotations', 'bottom_z'):
        if getattr(ours, name) != getattr(released, name):
            raise InputError(
                f'the config sets anchor {name} {getattr(ours, name)}, but released weights are trained for '
                f'{getattr(released, name)}: leave `anchors` of the head at its default'
            )
