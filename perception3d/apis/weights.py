"""Turning weights from elsewhere into a checkpoint for one of our configs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from perception3d.apis.config import load_config
from perception3d.checkpoints import load_checkpoint_safely
from perception3d.checks import InputError, unknown_name
from perception3d.files import write_whole

if TYPE_CHECKING:
    from perception3d.models.fast_bev.convert import Conversion

_SHOWN = 4
_KEPT_META = ('experiment_name', 'seed', 'epoch', 'iter', 'dataset_meta')


def convert_weights(
    source: str | Path, config: str | Path, out: str | Path, kind: str | None = None, allow_pickle: bool = False
) -> str:
    """Converts a checkpoint for the model of a config, writes it to `out`, and returns a short report.

    A released Fast-BEV checkpoint gives a complete model for `tools/test.py`; ImageNet and nuImages weights give the
    backbone alone, for `load_from` of a training.

    Args:
        source: .pth file: a ResNet of torchvision or mmcv (imagenet), a detector of mmdetection trained on nuImages
            (nuimages), or a released Fast-BEV model (fastbev).
        config: config whose model the weights are for.
        out: file to write.
        kind: one of imagenet, nuimages, fastbev; recognised by its tensor names when None.
        allow_pickle: load a source that holds more than plain data, which runs code from the file.

    Raises:
        InputError: the source is missing, damaged, refused, of no known kind, or of another variant than the config.
    """
    from perception3d.models.fast_bev import convert

    state = load_checkpoint_safely(source, allow_pickle=allow_pickle)['state_dict']
    plain = convert.strip_wrappers(state)
    kind = kind or convert.guess_kind(plain)
    if kind is None:
        raise InputError(
            f'{source} is neither an ImageNet ResNet, a nuImages detector nor a Fast-BEV checkpoint '
            f'(its first tensors: {", ".join(list(plain)[:3]) or "none"}): name its kind with --kind'
        )
    if kind not in convert.KINDS:
        raise unknown_name('kind of weights', kind, convert.KINDS)
    model = _build_model(config)
    wanted = model.state_dict()
    result = convert.convert_state(plain, kind, wanted)
    _refuse_other_variant(result, plain, wanted, kind, source, config)
    if kind == 'fastbev':
        _require_released_anchors(model, config)
    with write_whole(out) as temporary:
        torch.save({'state_dict': result.state, 'meta': {'converted_from': Path(source).name, 'kind': kind}}, temporary)
    return report(result, kind, source, out)


def write_weights(source: str | Path, out: str | Path) -> None:
    """Writes the weights of a checkpoint to `out`, without what only a resumed training needs.

    Kept in `meta`: the experiment, the seed, how far the training was, and `dataset_meta`, which names the classes.

    Raises:
        InputError: the source is missing, damaged or refused.
    """
    content = load_checkpoint_safely(source)
    told = content.get('meta') or {}
    meta = {key: told[key] for key in _KEPT_META if key in told}
    with write_whole(out) as temporary:
        torch.save({'state_dict': content['state_dict'], 'meta': meta}, temporary)


def report(result: Conversion, kind: str, source: str | Path, out: str | Path) -> str:
    """Table of what a conversion matched, left, missed, and found in another shape."""
    shapes = [f'{name} {found} for {expected}' for name, found, expected in result.mismatched]
    values = sum(tensor.numel() for tensor in result.state.values())
    rows = [
        ('matched', len(result.state), f'{values / 1e6:.2f} M values -> {out}'),
        ('unused', len(result.unused), _some(result.unused)),
        ('missing', len(result.missing), _some(result.missing)),
        ('other shape', len(shapes), _some(shapes)),
    ]
    return '\n'.join(
        [f'{source} ({kind})', *(f'  {name:<12}{count:>5}  {text}'.rstrip() for name, count, text in rows)]
    )


def _some(names: list[str]) -> str:
    return ', '.join(names[:_SHOWN]) + (', ...' if len(names) > _SHOWN else '')


def _build_model(config: str | Path) -> nn.Module:
    from perception3d.models.fast_bev.detector import FastBEV
    from perception3d.registry import MODELS

    model = MODELS.build(load_config(config).model)
    if not isinstance(model, FastBEV):
        raise InputError(
            f'{config} builds a {type(model).__name__}: weights can be converted for Fast-BEV configs only'
        )
    return model


def _refuse_other_variant(
    result: Conversion,
    plain: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    kind: str,
    source: str | Path,
    config: str | Path,
) -> None:
    from perception3d.models.fast_bev import convert

    if result.state and not result.missing and not result.mismatched:
        return
    if kind == 'fastbev':
        holds, needs = (convert.variant_name(convert.describe(state)) for state in (plain, wanted))
    else:
        names = [name for name in plain if kind == 'imagenet' or name.startswith('backbone.')]
        holds, needs = (
            convert.backbone_name(names),
            convert.backbone_name([n for n in wanted if n.startswith('backbone.')]),
        )
    differ = [f'{name} is {found}, needs {expected}' for name, found, expected in result.mismatched[:2]]
    differ += [f'{name} is missing' for name in result.missing[: 2 - len(differ)]]
    raise InputError(
        f'{source} does not fit {config}: the file holds {holds}, the config is {needs} '
        f'({len(result.mismatched)} tensors of another shape, {len(result.missing)} missing: {"; ".join(differ)}); '
        f'{"choose the config of that variant" if kind == "fastbev" else "choose weights of the same backbone"}'
    )


def _require_released_anchors(model: nn.Module, config: str | Path) -> None:
    from perception3d.models.fast_bev.anchors import AnchorGrid

    ours, released = model.bbox_head.grid, AnchorGrid()
    for name in ('sizes', 'rotations', 'bottom_z'):
        if getattr(ours, name) != getattr(released, name):
            raise InputError(
                f'{config} sets anchor {name} {getattr(ours, name)}, but released weights are trained for '
                f'{getattr(released, name)}: leave `anchors` of the head at its default'
            )
