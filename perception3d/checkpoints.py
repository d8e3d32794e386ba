"""Checkpoints: loaded without running code, checked against their model, and written so that a kill loses none."""

from __future__ import annotations

import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perception3d.checks import InputError, require_file
from perception3d.files import write_whole

# The file of a work folder that names its newest checkpoint.
POINTER = 'last_checkpoint'
# What a checkpoint holds if a training can be resumed from it.
RESUMABLE = ('meta', 'message_hub', 'optimizer')
_WRITTEN = re.compile(r'(epoch|iter)_\d+\.pth|best_.+\.pth')
# As write_whole names them.
_UNFINISHED = re.compile(r'\.(.+-\w{8,12}\.pth|last_checkpoint-\w{8,12})')


def torch_load_safely(file: Any, map_location: Any = None, safe_globals: Sequence[Any] = ()) -> Any:
    """Loads a torch file with `weights_only=True` and an allow-list of classes.

    Raises:
        InputError: the file is missing, damaged, or holds objects that only running its code could restore.
    """
    try:
        with torch.serialization.safe_globals(list(safe_globals)):
            return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        named = str(error).partition('GLOBAL ')[2]
        reason = re.split(' was not| whose module', named)[0] or 'foreign objects'
        raise InputError(
            f'checkpoint {file} was refused: it holds {reason}, which would run code from the file; if you trust its '
            'source, load it once with torch.load(..., weights_only=False) and save the state dict alone'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f'checkpoint {file} cannot be read ({reason}): it is damaged or no checkpoint') from error


def load_checkpoint_safely(path: str | Path, map_location: Any = 'cpu', allow_pickle: bool = False) -> dict[str, Any]:
    """Returns the content of a checkpoint file as a dict with a `state_dict`.

    Args:
        path: a checkpoint of mmengine, or a bare state dict.
        map_location: as in torch.load.
        allow_pickle: load it even if that runs code from the file. Only for files whose source you trust.

    Raises:
        InputError: the file is missing, damaged, refused, or holds no state dict.
    """
    path = require_file(path, 'give the path of a .pth file')
    if allow_pickle:
        content = torch.load(path, map_location=map_location, weights_only=False)
    else:
        # compat puts the safe loader under mmengine's own name, so that resuming and load_from go the same way.
        from mmengine.runner import checkpoint

        content = checkpoint._safe_torch_load(path, map_location)
    if isinstance(content, Mapping) and 'state_dict' not in content:
        is_bare = bool(content) and all(isinstance(value, torch.Tensor) for value in content.values())
        content = {'state_dict': content} if is_bare else content
    if not isinstance(content, Mapping) or 'state_dict' not in content:
        raise InputError(f'checkpoint {path} holds no state_dict: is it a checkpoint of a model?')
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
    state._metadata = OrderedDict((name.removeprefix('module.'), value) for name, value in versions.items())
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
    problems = [
        f'{len(names)} {what} ({", ".join(names[:2])}{", ..." if len(names) > 2 else ""})'
        for what, names in (('of another shape', shapes), ('missing', missing), ('unexpected', unexpected))
        if names
    ]
    if problems:
        raise InputError(
            f'checkpoint {path} is of another model or variant than {type(model).__name__} in this config: '
            f'{"; ".join(problems)}; use the config that it was trained with'
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


@contextmanager
def write_durably(path: str | Path) -> Iterator[Path]:
    """As `files.write_whole`, and the content is on the disk before the file gets its name.

    So the old file may be removed afterwards: neither a kill nor a power failure loses both.
    """
    path = Path(path)
    with write_whole(path) as temporary:
        yield temporary
        with temporary.open('rb') as file:
            os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_pointer(folder: str | Path, checkpoint: str | Path | None) -> None:
    """Writes `folder`/last_checkpoint: the path of `checkpoint` relative to the folder.

    An empty file (None) says that a training has begun there which has saved nothing yet.
    """
    with write_durably(Path(folder) / POINTER) as temporary:
        temporary.write_text('' if checkpoint is None else os.path.relpath(checkpoint, folder), encoding='utf-8')


def pointed_checkpoint(folder: str | Path) -> Path | None:
    """Returns the checkpoint that `folder`/last_checkpoint names, if it exists; its content is not looked at.

    Of an absolute path, as mmengine writes, the name alone counts: the folder may be a copy, or have been renamed.
    """
    folder = Path(folder)
    try:
        name = (folder / POINTER).read_text(encoding='utf-8').strip()
    except (OSError, UnicodeDecodeError):
        return None
    path = folder / (Path(name).name if os.path.isabs(name) else name)
    return path if name and path.is_file() else None


def latest_checkpoint(folder: str | Path, tell: Callable[[str], None] = lambda line: None) -> Path | None:
    """Returns the newest complete checkpoint of `folder` from which a training can be resumed, None if there is none.

    It is the one that last_checkpoint names. Where that is lost or damaged, it is the one that is furthest in the
    training.

    Args:
        tell: called with a line where last_checkpoint did not help.
    """
    folder = Path(folder)
    pointer = folder / POINTER
    if pointer.is_file() and not pointer.read_bytes().strip():
        return None
    pointed = pointed_checkpoint(folder)
    if pointed is not None and _progress(pointed):
        return pointed
    others = {path: _progress(path) for path in training_checkpoints(folder) if path != pointed}
    others = {path: progress for path, progress in others.items() if progress}
    if not others:
        return None
    newest = max(others, key=lambda path: others[path])
    what = f'{pointed.name} is damaged' if pointed else f'{POINTER} is missing or names a file that is not there'
    tell(f'{folder}: {what}; the newest complete checkpoint is {newest.name}')
    return newest


def training_checkpoints(folder: str | Path) -> list[Path]:
    """Returns what trainings have left in `folder`: epoch_N.pth, iter_N.pth, best_*.pth, what last_checkpoint names."""
    folder = Path(folder)
    found = {path for path in folder.glob('*.pth') if _WRITTEN.fullmatch(path.name) and path.is_file()}
    pointed = pointed_checkpoint(folder)
    return sorted(found | ({pointed} if pointed else set()))


def remove_unfinished(folder: str | Path) -> None:
    """Removes the temporary files of checkpoints that a killed training has left in `folder`; see `write_whole`."""
    for path in Path(folder).glob('.*'):
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _progress(path: Path) -> tuple[int, int] | None:
    """How far the training of a checkpoint is: epoch, then samples or iterations; None: it is no complete one."""
    try:
        content = load_checkpoint_safely(path, map_location='meta')
        if any(name not in content for name in RESUMABLE):
            return None
        meta = content['meta']
        return int(meta['epoch']), int(meta.get('place', {}).get('samples', meta['iter']))
    except Exception:
        # Damaged bytes lead torch's unpickler to errors of any kind.
        return None
