"""Fixes of how mmengine loads files that may hold code: checkpoints from files and URLs, pickles, YAML."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlparse


def _safe_globals(mmengine_checkpoint: ModuleType) -> list[Any]:
    """Lists what a checkpoint of mmengine may hold next to tensors.

    The log of a run has methods of HistoryBuffer, which pickle writes as getattr(HistoryBuffer, name). As getattr can
    reach any code, it is replaced by a function that allows only this form. `perception3d.pickles`, which reads the
    file first, further restricts the types of numpy.
    """
    import numpy as np
    from mmengine.logging import HistoryBuffer

    def getattr_of_history_buffer(owner: Any, name: str) -> Any:
        if owner is HistoryBuffer and isinstance(name, str) and not name.startswith('_'):
            return getattr(HistoryBuffer, name)
        raise pickle.UnpicklingError(f'GLOBAL getattr({owner!r}, {name!r}) was not allowed')

    numbers = [type(np.dtype(code)) for code in '?bhilqBHILQefdgFDGSU']
    listed = [item for item in mmengine_checkpoint.get_torch_safe_globals() if item is not getattr]
    return [*listed, *numbers, (getattr_of_history_buffer, 'builtins.getattr')]


def load_checkpoints_safely(mmengine_checkpoint: Any) -> None:
    """Replaces mmengine's loader, which runs pickles that torch's safe loader refuses, by one that refuses them too.

    Downloaded files are loaded in the same way. Tensors that cannot be weights of the model are refused.
    """
    if hasattr(mmengine_checkpoint, 'load_state_dict_of_any_type'):
        return

    def safe_torch_load(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        from perception3d.checkpoints import torch_load_safely

        return torch_load_safely(file, map_location, _safe_globals(mmengine_checkpoint))

    def load_url(
        url: str,
        model_dir: str | None = None,
        map_location: Any = None,
        progress: bool = True,
        check_hash: bool = False,
        file_name: str | None = None,
    ) -> Any:
        from perception3d.checks import InputError

        path = _download(url, model_dir, progress, check_hash, file_name)
        try:
            return safe_torch_load(path, map_location)
        except InputError as error:
            raise InputError(f'{error} (downloaded from {url}; remove the file to download it again)') from error

    def load_state_dict(module: Any, state_dict: Any, strict: bool = False, logger: Any = None) -> Any:
        from perception3d.checks import InputError
        from perception3d.weight_values import weight_faults

        tensors = {name: value for name, value in state_dict.items() if hasattr(value, 'dtype')}
        faults = weight_faults(module.state_dict(), tensors)
        if faults:
            raise InputError(f'the checkpoint holds tensors that cannot be weights of this model: {faults[0]}')
        return mmengine_checkpoint.load_state_dict_of_any_type(module, state_dict, strict, logger)

    mmengine_checkpoint._safe_torch_load = safe_torch_load
    mmengine_checkpoint.load_url = load_url
    mmengine_checkpoint.load_state_dict_of_any_type = mmengine_checkpoint.load_state_dict
    mmengine_checkpoint.load_state_dict = load_state_dict
    loader = mmengine_checkpoint.CheckpointLoader
    loader.load_checkpoint = classmethod(_checked(loader.load_checkpoint.__func__))


def _checked(load: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps the loader of paths and URLs: a wrong one is an error of one line; text in a file is not run later."""

    def load_checkpoint(cls: Any, filename: str, map_location: Any = None, logger: Any = 'current') -> Any:
        from perception3d.checks import InputError

        try:
            content = load(cls, filename, map_location, logger)
        except InputError:
            raise
        except (OSError, KeyError, ImportError, AttributeError, ValueError) as error:
            reason = f'{type(error).__name__}: {error}' if str(error) else type(error).__name__
            raise InputError(f'checkpoint {filename} cannot be loaded: {reason}') from error
        meta = content.get('meta') if isinstance(content, Mapping) else None
        if isinstance(meta, dict):
            # Runner.resume runs a text under this key as a Python config; checkpoints of mmengine have it under `cfg`.
            meta.pop('config', None)
        return content

    return load_checkpoint


def _download(url: str, model_dir: str | None, progress: bool, check_hash: bool, file_name: str | None) -> str:
    """Returns the path of a downloaded file, in the folder and under the name that torch.hub uses."""
    import torch

    from perception3d.checks import InputError

    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    name = file_name or os.path.basename(unquote(urlparse(url).path))
    if not name or name in ('.', '..'):
        raise InputError(f'{url} names no file: give the address of a .pth file')
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        match = torch.hub.HASH_REGEX.search(name) if check_hash else None
        torch.hub.download_url_to_file(url, path, match.group(1) if match else None, progress=progress)
    return path


def read_files_safely(mmengine_io: Any) -> None:
    """Makes mmengine's readers of pickles and YAML safe; its own run code from a file.

    Data sets, evaluators, configs and database samplers of mmengine, mmdet and mmdet3d all read through `load` of this
    module. Writing stays as it is.
    """
    from perception3d.checks import InputError

    handlers = mmengine_io.file_handlers
    load = mmengine_io.load
    if hasattr(load, 'loads'):
        return

    def load_pickle(self: Any, file: Any, **settings: Any) -> Any:
        from perception3d.pickles import load_plain_pickle

        return load_plain_pickle(file, **settings)

    def load_yaml(self: Any, file: Any, **settings: Any) -> Any:
        from perception3d.files import parse_yaml

        return parse_yaml(file.read())

    def load_naming_the_file(file: Any, *args: Any, **kwargs: Any) -> Any:
        name = file if isinstance(file, (str, os.PathLike)) else getattr(file, 'name', 'a file')
        try:
            return load(file, *args, **kwargs)
        except InputError as error:
            raise InputError(f'{name} was refused: {error}') from error
        except pickle.UnpicklingError as error:
            raise InputError(f'{name} {error}') from error

    marked: Any = load_naming_the_file
    marked.loads = load
    marked.__doc__ = load.__doc__
    type(handlers['pkl']).load_from_fileobj = load_pickle
    type(handlers['yaml']).load_from_fileobj = load_yaml
    mmengine_io.load = marked
