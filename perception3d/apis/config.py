"""Loading a config, with the silent traps of Python-style configs turned into errors."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.config import Config, ConfigDict

from perception3d.apis.config_names import find_config
from perception3d.apis.config_sources import check_source
from perception3d.apis.option_texts import ADD
from perception3d.checks import InputError, nearest_names
from perception3d.compat.mmengine_options import values_at_the_top
from perception3d.compat.private_members import config_values

_PARTS = ('datasets', 'models', 'distill', 'evaluation', 'visualization', 'formats', 'engine')


def load_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Loads a config, by its path or the name of a shipped one, and applies `options` (dotted key -> value) to it.

    A Python config is code: loading it runs it, and a plugin may lie next to it, since its folder is put at the end of
    sys.path. A JSON or YAML config is data: it names registered parts, has bases of these formats, and runs nothing.

    An option for a plain value, or a list of them, at the top of a Python config is set while the file and its bases
    are executed: what they compute from the value, such as the ends of schedules from max_epochs, follows from it.

    Raises:
        InputError: no such file, nor a shipped config of that name: names similar ones; not a config; `_base_ = [...]`
            in a Python config, which would be ignored; one base imported twice in a file, whose parts would be one
            object under two names; `vis_backends` set where no visualizer takes it; a JSON or YAML config that reaches
            for code; an option whose key the config does not have (write '+key=value' to add one), or from which
            nothing in the config follows; one for a value at the top that would change half of what depends on it, or
            let the rates end elsewhere than the training.
    """
    path = find_config(path)
    if path.suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise InputError(f'{path} is not a config: expected a .py, .json or .yaml file')
    if path.suffix == '.py':
        check_source(path)
        folder = str(path.resolve().parent)
        if folder not in sys.path:
            sys.path.append(folder)
    else:
        _register_parts()
    config = _read(path)
    # An option for what a value is already changes nothing, also where an option that changes it would be refused.
    options = {key: value for key, value in (options or {}).items() if not _is_same(config.get(key), value)}
    values = _computed_from(path, config, _values_at_the_top(config, options))
    ended_elsewhere = schedule_ends_elsewhere(config)
    if values:
        config = _derive(path, config, values)
    # An option for the part itself, such as train_cfg.max_epochs, is the user's own choice.
    by_values = schedule_ends_elsewhere(config) and not ended_elsewhere
    apply_options(config, {key: value for key, value in options.items() if key.removeprefix(ADD) not in values})
    faults = schedule_ends_elsewhere(config)
    if by_values and faults:
        shown = ', '.join(f'{key}={value!r}' for key, value in values.items())
        raise InputError(f'{path} with {shown}: {faults}; set these too, or compute them from {", ".join(values)}')
    return config


def _read(path: Path, values: Mapping[str, Any] | None = None) -> Config:
    """Reads a config; a Python config takes `values` for what it assigns to these names at its top."""
    config = _parse(path, values)
    config.setdefault('default_scope', 'mmdet3d')
    # `import copy` in a config, to copy what must differ, leaves the module among its values.
    try:
        entries: list[tuple[str, Any]] = config_values(config).items()
    except ImportError as error:
        raise InputError(f'{error}: is its package installed, or its folder on PYTHONPATH?') from error
    for name in [name for name, value in entries if isinstance(value, ModuleType)]:
        del config_values(config)[name]
    return config


def _parse(path: Path, values: Mapping[str, Any] | None = None) -> Config:
    """Reads a config; what a Python config imports is imported when it is looked up."""
    try:
        with values_at_the_top(values or {}):
            config = Config.fromfile(str(path), lazy_import=True if path.suffix == '.py' else None)
    except InputError:
        raise
    except Exception as error:
        shown = ''.join(f' with {name}={value!r}' for name, value in (values or {}).items())
        numbered = isinstance(error, KeyError) and isinstance(error.args[0], (int, slice))
        hint = '; the steps of a pipeline have names, not numbers: see docs/configs.md' if numbered else ''
        raise InputError(f'{path} does not load as a config{shown}: {type(error).__name__}: {error}{hint}') from error
    if not isinstance(config.get('model'), Mapping):
        raise InputError(f'{path} is not a config: it defines no `model = dict(type=..., ...)`')
    return config


def _register_parts() -> None:
    """Imports all parts of this package, so that a config in a data format may name them."""
    for name in _PARTS:
        package = importlib.import_module(f'perception3d.{name}')
        for module in pkgutil.walk_packages(package.__path__, f'{package.__name__}.'):
            importlib.import_module(module.name)


def apply_options(config: Config, options: Mapping[str, Any]) -> None:
    """Sets dotted keys of `config`, list places by number; a new key needs a leading '+'.

    A text at the top of the config, such as data_root, is also set wherever a part has it under the same name with the
    same value. From a number or a list there, such as max_epochs or voxel_size, parts were computed when the file was
    read or written, so that to change it here would change nothing, or half of what depends on it: refused, except for
    settings of the runner itself.

    Raises:
        InputError: the key is unknown; names the nearest keys. Or such a value; names the parts that have it.
    """
    for key, value in options.items():
        may_add = key.startswith(ADD)
        parts = key.removeprefix(ADD).split('.')
        _refuse_source_of_parts(config_values(config), parts[0])
        node: Any = config_values(config)
        for depth, part in enumerate(parts[:-1]):
            if isinstance(node, MutableMapping) and may_add and part not in node:
                node[part] = ConfigDict()
            node = _child(config, node, part, '.'.join(parts[: depth + 1]))
        leaf = parts[-1]
        if isinstance(node, MutableMapping) and (may_add or leaf in node):
            if len(parts) == 1 and leaf in node:
                _check_stands_alone(config, leaf, value, may_add)
                _rename_everywhere(config_values(config), leaf, node[leaf], value)
            node[leaf] = value
        else:
            _child(config, node, leaf, '.'.join(parts))
            node[int(leaf)] = value


def check_option_keys(path: Path, options: Mapping[str, Any]) -> None:
    """Refuses keys that the Python config `path` does not have, without importing the classes that it names.

    What lies below a key that another option adds is left to `apply_options`.

    Raises:
        InputError: names the nearest keys.
    """
    config = _parse(path)
    added = [key.removeprefix(ADD).partition('.')[0] for key in options if key.startswith(ADD)]
    for key in options:
        parts = key.removeprefix(ADD).split('.')
        if parts[0] in (*added, 'default_scope'):
            continue
        node: Any = config_values(config)
        for depth, part in enumerate(parts):
            if isinstance(node, dict) and part in node:
                # Not node[part], which imports the class that it names.
                node = dict.__getitem__(node, part)
            elif _has_place(node, part):
                node = node[int(part)]
            else:
                raise _unknown_key(config, '.'.join(parts[: depth + 1]))


def _values_at_the_top(config: Config, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options for plain values, or lists of them, at the top of a Python config."""
    if Path(config.filename).suffix != '.py':
        return {}
    named = {key.removeprefix(ADD): value for key, value in options.items()}
    return {key: value for key, value in named.items() if key in config and _is_plain(config[key]) and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(item is None or isinstance(item, (str, int, float)) for item in value)
    return value is None or isinstance(value, (str, int, float))


def _computed_from(path: Path, config: Config, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of `values` from whose names something in the Python config `path` is computed.

    That is not so for a config that mmengine wrote into a work folder: it is Python, but holds only values.
    """
    computed = {}
    for key, value in values.items():
        alone = _read(path, {key: value})
        alone[key] = config[key]
        if value != config[key] and config_values(alone) != config_values(config):
            computed[key] = value
    return computed


def _derive(path: Path, config: Config, values: Mapping[str, Any]) -> Config:
    """Reads `config` from `path` again with `values` at its top, and with all that is computed from them."""
    derived = _read(path, values)
    for key, value in values.items():
        _rename_everywhere(config_values(derived), key, config[key], value)
        # Also where the file deletes the name, or a base has it alone.
        derived[key] = value
    return derived


def schedule_ends_elsewhere(config: Config) -> str:
    """Says where the rates of `config` end at another epoch than its training; empty where they do not."""
    schedulers = config.get('param_scheduler') or []
    schedulers = schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]
    ends = [entry['end'] for entry in schedulers if entry.get('by_epoch', True) and 'end' in entry]
    epochs = (config.get('train_cfg') or {}).get('max_epochs')
    if not ends or epochs is None or max(ends) == epochs:
        return ''
    return f'train_cfg.max_epochs of the config is {epochs}, but its param_scheduler ends at {max(ends)}'


def _check_stands_alone(config: Config, key: str, value: Any, may_add: bool) -> None:
    """Refuses an option for a plain value at the top if to set it under this name would leave parts as they were.

    Raises:
        InputError: nothing has the value under this name, or what was computed from it would stay; names the parts.
    """
    old = config[key]
    if not _is_plain(old) or value == old or key in _runner_settings():
        return
    leaves = {name: _child_at(config, name) for name in _dotted_keys(config) if '.' in name}
    same = [name for name, held in leaves.items() if name.endswith(f'.{key}') and _is_same(held, old)]
    if isinstance(old, str):
        others = [name for name, held in leaves.items() if old and isinstance(held, str) and held.startswith(old)]
        computed = [name for name in others if name not in same]
    elif old is None:
        computed = []
    else:
        schedule = [name for name, held in leaves.items() if name.startswith('param_scheduler.') and held == old]
        computed = [*same, *(name for name in schedule if name not in same)]
    if computed:
        shown = ', '.join(computed[:6]) + (', ...' if len(computed) > 6 else '')
        raise InputError(
            f'{key}={value} would change a part of what depends on {key}: {config.filename} holds values that were '
            f'computed from it. Set {shown} and what depends on them, or use the Python config that computes them'
        )
    if not same and not may_add:
        raise InputError(
            f'{key}={value} changes nothing: nothing in {config.filename} is computed from {key} when it is read; set '
            f'the parts that depend on it (where code reads it from the config, write +{key}={value})'
        )


def _is_same(held: Any, old: Any) -> bool:
    return held == old and isinstance(held, bool) == isinstance(old, bool)


def _child_at(config: Config, dotted: str) -> Any:
    node: Any = config_values(config)
    for part in dotted.split('.'):
        node = _child(config, node, part, dotted)
    return node


def _runner_settings() -> set[str]:
    """Returns the names of what mmengine's runner itself reads at the top of a config."""
    from mmengine.runner import Runner

    return {*inspect.signature(Runner.__init__).parameters, 'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg'}


def _refuse_source_of_parts(root: Mapping[str, Any], key: str) -> None:
    value = root.get(key)
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (dict, list, tuple)):
        places = [name for name in _dotted_keys(root) if name.endswith(f'.{key}')]
        shown = ', '.join(places[:6]) + (', ...' if len(places) > 6 else '')
        raise InputError(
            f'{key} at the top of the config changes nothing by an option: its parts were computed from it when the '
            f'file was read. Set {shown or "the parts"} and what depends on them, or write a config'
        )


def _rename_everywhere(node: Any, key: str, old: Any, new: Any) -> None:
    """Sets `key` to `new` in all nested dicts where it has the value `old`.

    A config states a value such as data_root once at its top and hands it to its parts; an option for the top must
    reach those parts too, which mmengine does not do.
    """
    if isinstance(old, (dict, list)):
        return
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, (list, tuple)) else ()
    for child in children:
        _rename_everywhere(child, key, old, new)
        if isinstance(child, MutableMapping) and key in child and child[key] == old:
            child[key] = new


def _child(config: Config, node: Any, part: str, dotted: str) -> Any:
    if isinstance(node, Mapping) and part in node:
        return node[part]
    if _has_place(node, part):
        return node[int(part)]
    raise _unknown_key(config, dotted)


def _has_place(node: Any, part: str) -> bool:
    return isinstance(node, Sequence) and not isinstance(node, str) and part.isdigit() and int(part) < len(node)


def _unknown_key(config: Config, dotted: str) -> InputError:
    close = nearest_names(dotted, _dotted_keys(config))
    hint = f'did you mean {" or ".join(close)}?' if close else 'print the config with tools/print_config.py'
    return InputError(f'the config has no key {dotted!r}: {hint} (to add a new key write +{dotted}=...)')


def _dotted_keys(node: Any, prefix: str = '') -> Iterator[str]:
    if isinstance(node, Config):
        node = config_values(node)
    # Not node.items(), which would import the classes.
    pairs = dict.items(node) if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield f'{prefix}{key}'
        yield from _dotted_keys(value, f'{prefix}{key}.')


def use_tta(config: Config) -> None:
    """Makes a config test with its test-time augmentation: `tta_pipeline`, and where there is one `tta_model`.

    Raises:
        InputError: the config defines none.
    """
    if 'tta_pipeline' not in config:
        raise InputError(f'{config.filename}: --tta needs a tta_pipeline in the config')
    config.test_dataloader['dataset']['pipeline'] = config.tta_pipeline
    if 'tta_model' in config:
        config.model = {**config.tta_model, 'module': config.model}


def part_of(config: Config, key: str | None) -> str:
    """Returns the text of the part of `config` under the dotted `key`, or of all of it.

    Raises:
        InputError: the config has no such key; names the nearest ones.
    """
    if not key:
        return config.pretty_text
    node: Any = config_values(config)
    parts = key.split('.')
    for depth, part in enumerate(parts):
        node = _child(config, node, part, '.'.join(parts[: depth + 1]))
    return Config({parts[-1]: node}).pretty_text
