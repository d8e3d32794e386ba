"""Configs in JSON and YAML are data: they name registered parts and reach no other code.

mmengine reads them with the loader of YAML that makes any object, imports what `custom_imports` names, runs a Python
file under `_base_`, and takes for `type` the dotted path of anything that can be called. Python configs are code and
may do all of that.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from perception3d.checks import InputError, nearest_names, require_file

SUFFIXES = ('.json', '.yaml', '.yml')
_SCOPES = ('mmengine', 'mmcv', 'mmdet', 'mmdet3d')
# Their `type` is looked up among the functions of one upstream module, see `names_in_place_of_eval`.
_FUNCTIONS = ('nms', 'soft_nms', 'nms_rotated', 'nms_quadri')
_LARGEST = 200_000
_DEEPEST = 100
# All texts of the configs in data formats that this process has read: a registry imports nothing for them.
_texts: set[str] = set()


def read_data_config(path: str | Path) -> dict[str, Any]:
    """Reads a JSON or YAML config with its bases, which are of these formats too, and checks that it is data alone.

    Raises:
        InputError: it is malformed; it holds `custom_imports`, a Python base or another Python file, '{{ }}', or a
            `type` or scope that is not registered. Names the key.
    """
    path = require_file(path)
    content = _with_bases(path.resolve(), ())
    texts: set[str] = set()
    for place, key, value in _leaves(content):
        texts.update(item for item in (key, value) if isinstance(item, str))
        _check_leaf(place, key, value, path)
    _texts.update(texts)
    return content


def _with_bases(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    from mmengine.config import Config

    if path in children:
        raise InputError(f'{path} is its own base: correct _base_')
    content = _parse(path)
    bases = content.pop('_base_', [])
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or Path(base).suffix not in SUFFIXES or '::' in base or '://' in base:
            raise InputError(
                f'{path}: _base_ is {base!r}: the base of a {path.suffix} config is a JSON or YAML file, since a '
                'Python config is code; write this config in Python to build on it'
            )
        base_path = require_file(path.parent / base, f'correct _base_ of {path}').resolve()
        part = _with_bases(base_path, (*children, path))
        double = sorted(merged.keys() & part.keys())
        if double:
            raise InputError(f'{path}: two of its bases set {double[0]}: leave it to one of them')
        merged.update(part)
    try:
        return Config._merge_a_into_b(content, merged)
    except (TypeError, KeyError, RecursionError) as error:
        raise InputError(f'{path} does not fit its base: {error}') from error


def _parse(path: Path) -> dict[str, Any]:
    from perception3d.files import read_json, read_yaml

    content = read_json(path) if path.suffix == '.json' else read_yaml(path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f'{path} is not a config: expected names with values at its top')
    if 'custom_imports' in content:
        raise InputError(
            f'{path} sets custom_imports: a {path.suffix} config is data and imports nothing: write it in Python'
        )
    _refuse_endless(content, path)
    return content


def _refuse_endless(content: Any, path: Path) -> None:
    """Aliases of YAML may stand for more values than fit in memory: they are counted before anything is copied."""
    pending, seen = [(content, 0)], 0
    while pending:
        value, depth = pending.pop()
        seen += 1
        if seen > _LARGEST or depth > _DEEPEST:
            raise InputError(
                f'{path} is not a config: it has more than {_LARGEST} values or {_DEEPEST} levels, or is part of itself'
            )
        if isinstance(value, (Mapping, list, tuple, set)):
            children = value.values() if isinstance(value, Mapping) else value
            pending += [(child, depth + 1) for child in children]


def _leaves(content: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields (dotted key, last key, value) of everything that is not a container."""
    pending: list[tuple[str, Any, Any]] = [('', '', content)]
    while pending:
        place, key, value = pending.pop()
        if isinstance(value, Mapping):
            pending += [(f'{place}.{name}'.lstrip('.'), name, item) for name, item in value.items()]
        elif isinstance(value, (list, tuple, set)):
            pending += [(f'{place}.{number}', key, item) for number, item in enumerate(value)]
        else:
            yield place, key, value


def _check_leaf(place: str, key: Any, value: Any, path: Path) -> None:
    if not isinstance(value, str):
        return
    if key == 'type' and value not in _FUNCTIONS and not is_registered(value):
        close = nearest_names(value.rpartition('.')[2], registered_names())
        raise InputError(
            f'{path}: {place} is {value!r}, which is not registered: a {path.suffix} config names registered parts only'
            + (f'; did you mean {" or ".join(close)}?' if close else '; write the config in Python to name others')
        )
    if key in ('_scope_', 'default_scope') and value not in _SCOPES:
        raise InputError(f'{path}: {place} is {value!r}: expected one of {", ".join(_SCOPES)}')
    if value.strip().lower().endswith('.py'):
        raise InputError(f'{path}: {place} is {value!r}: a {path.suffix} config is data and may not name a Python file')
    if '{{' in value:
        raise InputError(
            f'{path}: {place} is {value!r}: a {path.suffix} config has no placeholders: write the value itself'
        )


def is_registered(name: str) -> bool:
    """Whether a registry of mmengine, mmcv, mmdet or mmdet3d holds `name`, which may begin with a scope."""
    scope, dot, rest = name.partition('.')
    if dot and scope not in _SCOPES:
        return False
    return (rest if dot else name) in registered_names() or (rest if dot else name) in registered_names(everything=True)


def registered_names(everything: bool = False) -> set[str]:
    """Returns all names in the registries; with `everything`, those of upstream modules that are imported late too."""
    import mmengine.registry
    from mmengine.registry import Registry

    for name in ('hooks', 'optim', 'runner', 'visualization', 'evaluator', 'dataset', 'model'):
        importlib.import_module(f'mmengine.{name}')
    importlib.import_module('mmdet3d.registry')
    names: set[str] = set()
    pending = [item for item in vars(mmengine.registry).values() if isinstance(item, Registry)]
    while pending:
        registry = pending.pop()
        if everything:
            try:
                registry.import_from_location()
            except ImportError:
                # Some of mmdet3d's locations do not exist.
                continue
        names.update(registry.module_dict)
        pending += registry.children.values()
    # mmdet3d looks these up elsewhere: layers of PointNet++, and pooling of mmcv.
    layers = importlib.import_module('mmdet3d.models.layers.pointnet_modules.builder').SA_MODULES
    pooling = importlib.import_module('mmcv.ops')
    return names | set(layers.module_dict) | {name for name, item in vars(pooling).items() if isinstance(item, type)}


def import_nothing_for_data(registry: Any) -> None:
    """Has a registry of mmengine import no module because a config in a data format names it.

    A name without a dot does not name an object in a module; mmengine would import a module of that name.
    """
    look_up, get = registry.get_object_from_string, registry.Registry.get
    if hasattr(get, 'gets'):
        return

    def get_object_from_string(name: str) -> Any:
        return look_up(name) if '.' in name and name not in _texts else None

    def get_registered(self: Any, key: str) -> Any:
        if key in _texts and '.' in key and key.partition('.')[0] not in _SCOPES:
            return None
        return get(self, key)

    marked: Any = get_registered
    marked.gets = get
    marked.__doc__ = get.__doc__
    registry.get_object_from_string = get_object_from_string
    registry.Registry.get = marked


def read_data_configs_as_data(config: ModuleType) -> None:
    """Has mmengine's Config.fromfile read JSON and YAML with `read_data_config`, for whoever calls it."""
    fromfile = config.Config.fromfile
    if hasattr(fromfile, 'from_python'):
        return

    def from_file(filename: str | Path, *args: Any, **kwargs: Any) -> Any:
        if Path(filename).suffix not in SUFFIXES:
            return fromfile(filename, *args, **kwargs)
        content = read_data_config(filename)
        return config.Config(content, cfg_text=Path(filename).read_text(encoding='utf-8'), filename=str(filename))

    marked: Any = from_file
    marked.from_python = fromfile
    marked.__doc__ = fromfile.__doc__
    config.Config.fromfile = staticmethod(marked)


def names_in_place_of_eval(module: Any) -> None:
    """Has an upstream module look up a text of a config among its own names, such as np.int64, in place of eval."""

    def look_up(text: str) -> Any:
        parts = text.split('.')
        if (
            len(parts) > 2
            or not all(re.fullmatch(r'[A-Za-z]\w*', part) for part in parts)
            or parts[0] not in vars(module)
        ):
            raise InputError(f'{text!r} is not a name in {module.__name__}: expected one such as nms or np.int64')
        value = vars(module)[parts[0]]
        return getattr(value, parts[1]) if len(parts) == 2 else value

    module.eval = look_up


def arrays_without_pickles(module: Any) -> None:
    """Has an upstream module that asks numpy for pickled arrays read plain ones alone."""
    import numpy as np

    class Numpy(ModuleType):
        """numpy, but for `load`."""

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

    def load(file: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return np.load(file)
        except ValueError as error:
            raise InputError(f'{file} is not a plain array of numbers (.npy): {error}') from error

    replaced: Any = Numpy('numpy')
    replaced.load = load
    module.np = replaced
