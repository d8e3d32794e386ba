"""Checkpoints: loaded without running code, and checked against the model that they are meant for."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perception3d.checks import InputError, require_file


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


def check_resumable(model: nn.Module, path: str | Path) -> None:
    """Raises InputError if a training of `model` cannot go on from the checkpoint `path`; reads no tensor of it."""
    content = load_checkpoint_safely(path, map_location='meta')
    check_weights(model, {name.removeprefix('module.'): value for name, value in content['state_dict'].items()}, path)
    absent = [name for name in ('meta', 'message_hub') if name not in content]
    if absent:
        raise InputError(
            f'checkpoint {path} holds no {" and no ".join(absent)} of a training, so none can go on from it: '
            f'begin one from its weights with --cfg-options load_from={path}'
        )
