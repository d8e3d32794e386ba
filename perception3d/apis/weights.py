"""Converts weights of other projects into a checkpoint for one of our configs."""

from __future__ import annotations

from pathlib import Path

import torch

from perception3d.apis.config import load_config
from perception3d.checkpoints import load_checkpoint_safely
from perception3d.checks import InputError
from perception3d.files import write_whole
from perception3d.registry import MODELS
from perception3d.structures.conversion import Conversion

_SHOWN = 4
_KEPT_META = ('experiment_name', 'seed', 'epoch', 'iter', 'dataset_meta')


def convert_weights(
    source: str | Path, config: str | Path, out: str | Path, kind: str | None = None, allow_pickle: bool = False
) -> str:
    """Converts a checkpoint for the model of a config, writes it to `out`, and returns a short report.

    A released checkpoint of the whole model is then one for `tools/test.py`; weights of its backbone alone are for
    `load_from` of a training.

    Args:
        source: .pth file of a kind that the model's `convert_weights` accepts.
        config: config whose model the weights are for.
        out: file to write.
        kind: what the file holds, one of the kinds that the model accepts; recognised by the tensor names when None.
        allow_pickle: load a source that holds more than plain data, which runs code from the file.

    Raises:
        InputError: the source is missing, damaged, refused, of an unknown kind, or of another variant than the config.
    """
    state = load_checkpoint_safely(source, allow_pickle=allow_pickle)['state_dict']
    model = MODELS.build(load_config(config).model)
    if not hasattr(model, 'convert_weights'):
        raise InputError(
            f'{config} builds a {model.__class__.__name__}, which has no method convert_weights: name a '
            'config whose model has it'
        )
    try:
        result = model.convert_weights(state, kind)
    except InputError as error:
        raise InputError(f'{source} does not fit {config}: {error}') from error
    meta = {'converted_from': Path(source).name, 'kind': result.kind}
    with write_whole(out) as temporary:
        torch.save({'state_dict': result.state, 'meta': meta}, temporary)
    return report(result, source, out)


def write_weights(source: str | Path, out: str | Path) -> None:
    """Writes the weights of a checkpoint to `out`, without the parts that only a resumed training needs.

    `meta` keeps the experiment, the seed, the epoch and iteration, and `dataset_meta` with the classes.

    Raises:
        InputError: the source is missing, damaged or refused.
    """
    content = load_checkpoint_safely(source)
    source_meta = content.get('meta') or {}
    meta = {key: source_meta[key] for key in _KEPT_META if key in source_meta}
    with write_whole(out) as temporary:
        torch.save({'state_dict': content['state_dict'], 'meta': meta}, temporary)


def report(result: Conversion, source: str | Path, out: str | Path) -> str:
    """Returns a table of tensors by the result of a conversion: matched, unused, missing, or of another shape."""
    shapes = [f'{name} {shape} for {expected}' for name, shape, expected in result.mismatched]
    values = sum(tensor.numel() for tensor in result.state.values())
    rows = [
        ('matched', len(result.state), f'{values / 1e6:.2f} M values -> {out}'),
        ('unused', len(result.unused), _some(result.unused)),
        ('missing', len(result.missing), _some(result.missing)),
        ('other shape', len(shapes), _some(shapes)),
    ]
    return '\n'.join(
        [f'{source} ({result.kind})', *(f'  {name:<12}{count:>5}  {text}'.rstrip() for name, count, text in rows)]
    )


def _some(names: list[str]) -> str:
    return ', '.join(names[:_SHOWN]) + (', ...' if len(names) > _SHOWN else '')
