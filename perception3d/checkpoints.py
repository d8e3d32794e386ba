"""Checkpoints: loaded without running code, and checked against their model."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from perception3d.checkpoint_files import require_checkpoint
from perception3d.checks import InputError
from perception3d.pickles import check_tensor_pickle, tensor_names
from perception3d.weight_values import holds_nan, weight_faults

# What a checkpoint holds if a training can be resumed from it.
RESUMABLE = ('meta', 'message_hub', 'optimizer')
_WEIGHTS = ('state_dict', 'ema_state_dict')


def torch_load_safely(file: Any, map_location: Any = None, safe_globals: Sequence[Any] = ()) -> Any:
    """Loads a torch file with `weights_only=True` and an allow-list of classes, after a check of the file itself.

    Args:
        file: a path, or a file that is open for reading bytes.
        map_location: as in torch.load.
        safe_globals: what the file may hold next to tensors and plain values.

    Raises:
        InputError: the file is missing; damaged by its checksums; holds objects that only running its code could
            restore; or holds weights that are NaN. It names the tensor.
    """
    try:
        with _opened(file) as opened:
            _check_file(opened)
        with torch.serialization.safe_globals(list(safe_globals)):
            content = torch.load(file, map_location=map_location, weights_only=True)
    except InputError as error:
        raise InputError(f'checkpoint {_name(file)} was refused: {error}') from error
    except pickle.UnpicklingError as error:
        named = str(error).partition('GLOBAL ')[2]
        reason = re.split(' was not| whose module', named)[0] or 'foreign objects'
        raise InputError(
            f'checkpoint {_name(file)} was refused: it holds {reason}, which would run code from the file; ask for one '
            'that holds tensors and plain values only'
        ) from error
    except Exception as error:
        # A damaged file can end in any error; texts of torch that advise to load it unsafely are left out.
        reason = (str(error).splitlines() or [''])[0][:120] or type(error).__name__
        reason = f' ({reason})' if 'weights_only' not in reason else ''
        raise InputError(
            f'checkpoint {_name(file)} cannot be read{reason}: it is damaged or not a checkpoint'
        ) from error
    refuse_nan(content, file)
    if str(map_location) != 'meta':
        _refuse_absent(content, file)
    return content


def _name(file: Any) -> str:
    return str(getattr(file, 'name', '(a stream)') if hasattr(file, 'read') else file)


@contextmanager
def _opened(file: Any) -> Iterator[BinaryIO]:
    if not hasattr(file, 'read'):
        with open(file, 'rb') as opened:
            yield opened
        return
    start = file.tell()
    yield file
    file.seek(start)


def _check_file(file: BinaryIO) -> None:
    """Checks what torch does not: the checksums of a file's records, and what its pickle holds of numpy."""
    start = file.read(4)
    file.seek(-len(start), 1)
    if start != b'PK\x03\x04':
        _check_legacy_file(file)
        return
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        size = file.seek(0, 2)
        if any(record.compress_type != zipfile.ZIP_STORED for record in records) or size < sum(
            record.file_size for record in records
        ):
            raise InputError('its records are compressed or overlap, which torch never writes')
        # Checksums are all 0 where the writer left them out.
        bad = archive.testzip() if any(record.CRC for record in records) else None
        if bad and '/data/' not in bad:
            raise InputError(f'its record {bad} is damaged (checksum): copy or download it again')
        index = [record for record in records if record.filename.endswith('/data.pkl')]
        if len(index) != 1:
            raise InputError('it has no data.pkl, or several: it is not a checkpoint of torch')
    file.seek(0)
    content = check_tensor_pickle(io.BytesIO(torch._C.PyTorchFileReader(file).get_record('data.pkl')))
    if bad:
        names = dict(tensor_names(content))
        tensor = names.get(bad.rpartition('/data/')[2], bad)
        raise InputError(f'its tensor {tensor} is damaged (checksum): copy or download the file again')


def _check_legacy_file(file: BinaryIO) -> None:
    # The format before torch 1.6: a magic number, a protocol, facts of the machine, the content, then the tensors.
    begin = file.tell()
    try:
        for _ in range(4):
            check_tensor_pickle(file)
    except (EOFError, ValueError) as error:
        if not isinstance(error, InputError):
            # Not this format, or damaged. torch refuses it, and may give a reason.
            file.seek(begin)
            torch.load(file, weights_only=True)
        raise


def refuse_nan(content: Any, file: Any) -> None:
    """Raises InputError if a weight in a checkpoint's content is NaN; names the first such tensor."""
    for name, value in _tensors(content):
        if holds_nan(value):
            raise InputError(
                f'checkpoint {_name(file)}: its tensor {name} holds NaN: the training that wrote it has diverged, '
                'take an earlier checkpoint'
            )


def _tensors(content: Any) -> Iterator[tuple[str, torch.Tensor]]:
    states = [content.get(key) for key in _WEIGHTS] if isinstance(content, Mapping) else []
    for state in states if any(states) else [content]:
        for name, value in state.items() if isinstance(state, Mapping) else ():
            if isinstance(value, torch.Tensor):
                yield name, value


def _refuse_absent(content: Any, file: Any) -> None:
    for name, value in _tensors(content):
        if value.is_meta:
            raise InputError(
                f'checkpoint {_name(file)}: its tensor {name} has no values (device meta): save it from a model whose '
                'weights are in memory'
            )


def load_checkpoint_safely(path: str | Path, map_location: Any = 'cpu', allow_pickle: bool = False) -> dict[str, Any]:
    """Returns the content of a checkpoint file as a dict with a `state_dict`.

    Args:
        path: a checkpoint of mmengine, or a bare state dict; 'demo' names the packaged one where no file does.
        map_location: as in torch.load.
        allow_pickle: load it even if that runs code from the file. Only for files whose source you trust.

    Raises:
        InputError: the file is missing, damaged, refused, or holds no state dict.
    """
    path = require_checkpoint(path)
    if allow_pickle:
        content = torch.load(path, map_location=map_location, weights_only=False)
        refuse_nan(content, path)
    else:
        # compat puts the safe loader under mmengine's own name, so that resuming and load_from go the same way.
        from mmengine.runner import checkpoint

        content = checkpoint._safe_torch_load(path, map_location)
    if isinstance(content, Mapping) and 'state_dict' not in content:
        is_bare = bool(content) and all(isinstance(value, torch.Tensor) for value in content.values())
        content = {'state_dict': content} if is_bare else content
    if not isinstance(content, Mapping) or 'state_dict' not in content:
        raise InputError(f'checkpoint {path} holds no state_dict: is it a checkpoint of a model?')
    state = content['state_dict']
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise InputError(f'checkpoint {path}: its state_dict is not a dict from names to tensors')
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise InputError(f'checkpoint {path}: its {name} is a {type(value).__name__}, not a tensor')
    return dict(content)


def load_weights(model: nn.Module, path: str | Path, allow_pickle: bool = False) -> dict[str, Any]:
    """Loads a checkpoint strictly into `model` and returns the checkpoint's meta data.

    Raises:
        InputError: the checkpoint is of another model or variant; names the first tensors that differ.
    """
    content = load_checkpoint_safely(path, allow_pickle=allow_pickle)
    state = OrderedDict((name.removeprefix('module.'), value) for name, value in content['state_dict'].items())
    # Layers whose weights have changed their layout (spconv) look up the version in the metadata.
    versions = getattr(content['state_dict'], '_metadata', {})
    state._metadata = OrderedDict(  # type: ignore[attr-defined]  # torch keeps it there
        (name.removeprefix('module.'), value) for name, value in versions.items()
    )
    check_weights(model, state, path)
    model.load_state_dict(state)
    return dict(content.get('meta') or {})


def check_weights(model: nn.Module, state: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Raises InputError if `state`, of the file `path`, is not of `model`; names the first tensors that differ."""
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f'{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}'
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    faults = weight_faults(own, state)
    listed = {'of another shape': shapes, 'not usable as weights': faults, 'missing': missing, 'unexpected': unexpected}
    problems = [
        f'{len(names)} {what} ({", ".join(names[:2])}{", ..." if len(names) > 2 else ""})'
        for what, names in listed.items()
        if names
    ]
    if problems:
        # A model may know weights that look like its own.
        explain = getattr(model, 'explain_weights', lambda _: None)
        raise InputError(
            f'checkpoint {path} is of another model or variant than {type(model).__name__} in this config: '
            f'{"; ".join(problems)}; {explain(state) or "use the config that it was trained with"}'
        )


def check_resumable(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Returns the content of the checkpoint `path` without its tensors (they are on the device 'meta').

    Raises:
        InputError: a training of `model` cannot be resumed from it.
    """
    content = load_checkpoint_safely(path, map_location='meta')
    check_weights(model, {name.removeprefix('module.'): value for name, value in content['state_dict'].items()}, path)
    absent = [name for name in RESUMABLE if name not in content]
    if absent:
        raise InputError(
            f'checkpoint {path} holds no {" and no ".join(absent)} of a training, so none can be resumed from it: '
            f'begin one from its weights with --cfg-options load_from={path}'
        )
    return content
