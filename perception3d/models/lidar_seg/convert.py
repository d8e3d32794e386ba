"""Weights of the released Cylinder3D code and of mmdet3d for our Cylinder3D: names, layout, kernels in use, classes.

Both keep sparse weights as (k0, k1, k2, in, out), spconv 2 as (out, k0, k1, k2, in). Both give convolutions with
kernels of different shapes one index key, so that all of a block run on the pairs of its first one: position j of the
first kernel takes entry j of the flattened weight, and entries beyond its last position are never used. A network with
`legacy_shared_indices` has these kernels; what is computed is then the same.

Their heads have an output for ignored points. It is dropped, so that the most likely real class is predicted. The other
outputs are the classes in the order of the benchmark, which is that of the formats of this package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from perception3d.checks import InputError, unknown_name
from perception3d.structures.conversion import Conversion

# The output for ignored points, by the kind of source.
_IGNORED_OUTPUT = {'cylinder3d': 0, 'mmdet3d': -1}
KINDS = tuple(_IGNORED_OUTPUT)
ORIGINS = {'cylinder3d': 'the released Cylinder3D code (spconv 1)', 'mmdet3d': "mmdet3d's Cylinder3D (mmcv)"}
"""Where checkpoints of each kind come from."""

# The parts of a block in the released code, and where they are in ours.
_BLOCK = {
    'conv1': 'first.0.conv', 'bn0': 'first.0.norm', 'conv1_2': 'first.1.conv', 'bn0_2': 'first.1.norm',
    'conv2': 'second.0.conv', 'bn1': 'second.0.norm', 'conv3': 'second.1.conv', 'bn2': 'second.1.norm',
}  # fmt: skip
_UP = {
    'trans_dilao': 'before.conv', 'trans_conv': 'before.conv', 'trans_bn': 'before.norm', 'up_subm': 'up',
    **{f'conv{k}': f'after.{k - 1}.conv' for k in (1, 2, 3)}, **{f'bn{k}': f'after.{k - 1}.norm' for k in (1, 2, 3)},
}  # fmt: skip
_CONTEXT = {
    'conv1': 'convs.0', 'conv1_2': 'convs.1', 'conv1_3': 'convs.2', 'bn0': 'norms.0', 'bn0_2': 'norms.1',
    'bn0_3': 'norms.2',
}  # fmt: skip
# The same of mmdet3d.
_BLOCK_OF_MMDET3D = {
    f'{theirs}{a}_{b}': f'{branch}.{b}.{ours}'
    for theirs, ours in (('conv', 'conv'), ('bn', 'norm'))
    for a, branch in enumerate(('first', 'second'))
    for b in range(2)
}
_CONTEXT_OF_MMDET3D = {
    f'{theirs}{k + 1}': f'{ours}.{k}' for theirs, ours in (('conv', 'convs'), ('bn', 'norms')) for k in range(3)
}


def our_name(name: str, kind: str) -> str | None:
    """Returns our name, in the network, of a tensor of a source; None if it has no place."""
    module, _, tensor = name.rpartition('.')
    ours = _released(module) if kind == 'cylinder3d' else _of_mmdet3d(module)
    if ours == 'voxel_head':
        return 'voxel_head.bias' if tensor == 'bias' else 'voxel_head.conv.weight'
    return f'{ours}.{tensor}' if ours else None


def _released(module: str) -> str | None:
    if match := re.fullmatch(r'cylinder_3d_generator\.(PPmodel|fea_compression)\.(\d+)', module):
        return f'{"point_mlp" if match[1] == "PPmodel" else "compress"}.{match[2]}'
    part, _, rest = module.removeprefix('cylinder_3d_spconv_seg.').partition('.')
    if part == 'logits':
        return 'voxel_head'
    if part == 'downCntx':
        return _joined('context', _BLOCK, rest)
    if part == 'ReconNet':
        return _joined('ddcm', _CONTEXT, rest)
    if match := re.fullmatch(r'resBlock([2-5])', part):
        level = f'down.{int(match[1]) - 2}'
        return f'{level}.pool' if rest == 'pool' else _joined(f'{level}.block', _BLOCK, rest)
    if match := re.fullmatch(r'upBlock([0-3])', part):
        return _joined(f'up.{match[1]}', _UP, rest)
    return None


def _of_mmdet3d(module: str) -> str | None:
    if module == 'voxel_encoder.pre_norm':
        return 'point_mlp.0'
    if match := re.fullmatch(r'voxel_encoder\.vfe_layers\.([0-2])\.([01])', module):
        return f'point_mlp.{1 + 3 * int(match[1]) + int(match[2])}'
    fixed = {
        'voxel_encoder.vfe_layers.3': 'point_mlp.10',
        'voxel_encoder.compression_layers.0': 'compress.0',
        'decode_head.conv_seg': 'voxel_head',
    }
    if module in fixed:
        return fixed[module]
    part, _, rest = module.removeprefix('backbone.').partition('.')
    if part == 'down_context':
        return _joined('context', _BLOCK_OF_MMDET3D, rest)
    if part == 'ddcm':
        return _joined('ddcm', _CONTEXT_OF_MMDET3D, rest)
    number, _, rest = rest.partition('.')
    if part == 'down_block_list' and number.isdigit():
        level = f'down.{number}'
        return f'{level}.pool' if rest == 'pool' else _joined(f'{level}.block', _BLOCK_OF_MMDET3D, rest)
    if part == 'up_block_list' and number.isdigit():
        # By the level of their output; ours are in the order in which they run.
        return _joined(f'up.{3 - int(number)}', _UP, rest)
    return None


def _joined(prefix: str, names: Mapping[str, str], name: str) -> str | None:
    return f'{prefix}.{names[name]}' if name in names else None


def guess_kind(state: Mapping[str, Any]) -> str | None:
    """Returns one of KINDS by the names of a state dict; None if it is of neither."""
    if any(name.startswith('cylinder_3d_spconv_seg.') for name in state):
        return 'cylinder3d'
    if any(name.startswith('backbone.down_context.') for name in state):
        return 'mmdet3d'
    return None


def convert_state(source: Mapping[str, Tensor], wanted: Mapping[str, Tensor], kind: str) -> Conversion:
    """Fits the tensors of a source to the state dict `wanted` of a Cylinder3D with `legacy_shared_indices`."""
    result = Conversion(kind=kind)
    for name, value in source.items():
        ours = our_name(name, kind)
        if ours is None or ours not in wanted:
            result.unused.append(name)
            continue
        fitted = _fitted(ours, value, wanted[ours], _IGNORED_OUTPUT[kind])
        if fitted is None:
            result.mismatched.append((ours, tuple(value.shape), tuple(wanted[ours].shape)))
        else:
            result.state[ours] = fitted.to(wanted[ours].dtype).contiguous()
    touched = {*result.state, *(name for name, _, _ in result.mismatched)}
    for name in (name for name in wanted if name not in touched):
        if name.endswith('num_batches_tracked'):
            result.state[name] = wanted[name].new_zeros(())
        else:
            result.missing.append(name)
    return result


def _fitted(name: str, value: Tensor, wanted: Tensor, ignored_output: int) -> Tensor | None:
    """Returns a tensor of the source in the layout and with the kernel of ours; None where it does not fit."""
    if value.ndim == 5 and wanted.ndim == 5:
        positions, kernel = value.flatten(0, 2), wanted.shape[1:4]
        used = kernel[0] * kernel[1] * kernel[2]
        if len(positions) < used:
            return None
        value = positions[:used].unflatten(0, kernel).permute(4, 0, 1, 2, 3)
    if name.startswith('voxel_head.') and len(value) == len(wanted) + 1:
        value = value[1:] if ignored_output == 0 else value[:-1]
    return value if value.shape == wanted.shape else None


def convert_for(
    net: Any, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], kind: str | None = None
) -> Conversion:
    """Fits a checkpoint to a Cylinder3D; every tensor of both must find its place.

    Args:
        net: the Cylinder3D; it is not changed.
        wanted: its state dict.
        state: names to tensors of the source.
        kind: one of KINDS; recognised by the names when None.

    Raises:
        InputError: the kind is unknown, the network has other index keys or a refinement branch, or a tensor does not
            match; names it.
    """
    plain = {re.sub(r'^(module\.)+', '', name): value for name, value in state.items() if isinstance(value, Tensor)}
    kind = kind or guess_kind(plain)
    if kind is None:
        raise InputError(
            'the file is not a checkpoint of the released Cylinder3D code or of mmdet3d (its first tensors: '
            f'{", ".join(list(plain)[:3]) or "none"}): name its kind with --kind {"|".join(KINDS)}'
        )
    if kind not in KINDS:
        raise unknown_name('kind of weights', kind, KINDS)
    if not net.legacy_shared_indices or net.refine is not None:
        raise InputError(
            'released checkpoints need net.legacy_shared_indices=True, which computes what they were trained to, and '
            'net.refine=False, a branch that they do not have'
        )
    result = convert_state(plain, wanted, kind)
    problems = [f'{name} is {got}, expected {expected}' for name, got, expected in result.mismatched]
    problems += [f'{name} has no place in the network' for name in result.unused]
    problems += [f'{name} is missing' for name in result.missing]
    if problems:
        raise InputError(
            f'{len(problems)} tensors do not match ({"; ".join(problems[:3])}{"; ..." if len(problems) > 3 else ""}); '
            f'{len(result.state)} do: choose the width, the channels and the classes of the checkpoint'
        )
    return result
