"""What mmengine's Python configs lack: values that reach the bases, and pipelines of named steps.

Options for plain values at the top of a config are set while the config and its bases are executed. So are the settings
that a config assigns above its `with read_base()`. And a pipeline may be a dict of named steps, so that a config that
builds on it changes, adds and removes them by name.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from perception3d.checks import InputError, nearest_names

_VALUES: ContextVar[Mapping[str, Any] | None] = ContextVar('values', default=None)
_NAME = '__option_values__'
# The names that the bases of the config which is being read have set so far.
_SET_BY_BASES: ContextVar[set[str] | None] = ContextVar('set_by_bases', default=None)


@contextmanager
def values_at_the_top(values: Mapping[str, Any]) -> Iterator[None]:
    """Within the context, configs and bases that are read get `values` in place of their own at the top.

    What a config computes from a value, such as the end of a schedule from `max_epochs`, then follows from the option.
    """
    token = _VALUES.set(values)
    try:
        yield
    finally:
        _VALUES.reset(token)


def take_option_values(mmengine_config: Any) -> None:
    """Lets mmengine's parser of Python configs set the values of `values_at_the_top` behind each assignment."""
    transformer: Any = mmengine_config.ImportTransformer
    if hasattr(transformer, 'takes_option_values'):
        return

    class OptionTransformer(transformer):
        takes_option_values = True

        def visit_Module(self, node: ast.Module) -> ast.Module:
            values = _VALUES.get()
            self.generic_visit(node)
            if values:
                self.global_dict[_NAME] = copy.deepcopy(dict(values))
                node.body = [part for statement in node.body for part in _followed(statement, values)]
            return node

    mmengine_config.ImportTransformer = OptionTransformer


def read_settings_and_named_steps(mmengine_config: ModuleType) -> None:
    """Lets bases take what a config assigns above its `with read_base()`, and makes lists of pipelines of named steps.

    In mmengine the assignments of the bases would replace those above them. A leaf that sets the range of its points
    there has it in every part that the bases compute from the range.
    """
    config = mmengine_config.Config
    parse = config._parse_lazy_import
    if hasattr(parse, 'without_settings'):
        return

    def parse_with_settings(filename: str) -> tuple[Any, set[str]]:
        names: set[str] = set()
        outer = _VALUES.get() or {}
        above, used = _settings_above(filename, outer)
        token = _SET_BY_BASES.set(names)
        try:
            with values_at_the_top({**above, **outer}):
                content, imported = parse(filename)
        finally:
            _SET_BY_BASES.reset(token)
        for name in sorted(above.keys() - names - used):
            close = nearest_names(name, names)
            hint = f'did you mean {" or ".join(close)}?' if close else 'assign it below'
            raise InputError(
                f'{filename} sets {name} above `with read_base()`, where settings of the bases stand, and no base has '
                f'it: {hint}'
            )
        parent = _SET_BY_BASES.get()
        if parent is None:
            _list_steps(content)
        else:
            parent.update(content)
        return content, imported

    marked: Any = parse_with_settings
    marked.without_settings = parse
    config._parse_lazy_import = staticmethod(marked)


def _settings_above(filename: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Returns what a config assigns above its `with read_base()`, and the names of all that it reads itself.

    The values of `options` take the place of those that the config assigns.
    """
    body = ast.parse(Path(filename).read_text(encoding='utf-8')).body
    reads = next((n for n, node in enumerate(body) if isinstance(node, ast.With) and 'read_base' in ast.dump(node)), 0)
    assignments = [node for node in body[:reads] if isinstance(node, (ast.Assign, ast.AnnAssign))]
    if not assignments:
        return {}, set()
    names: dict[str, Any] = {_NAME: copy.deepcopy(dict(options))}
    module = ast.Module([part for node in assignments for part in _followed(node, options)], [])
    try:
        exec(compile(ast.fix_missing_locations(module), filename, 'exec'), names)
    except NameError as error:
        raise InputError(
            f'{filename}: {error}: settings above `with read_base()` are computed from each other alone; what depends '
            'on the bases is assigned below'
        ) from error
    nodes = [node for part in body for node in ast.walk(part) if isinstance(node, ast.Name)]
    used = {node.id for node in nodes if isinstance(node.ctx, ast.Load)}
    return {name: value for name, value in names.items() if not name.startswith('__')}, used


def _list_steps(node: Any, key: str = '') -> Any:
    """Replaces each pipeline of named steps in `node` by the list of its steps, in place; returns the new node."""
    if isinstance(node, dict):
        for name, value in list(dict.items(node)):
            dict.__setitem__(node, name, _list_steps(value, name))
        is_pipeline = key == 'transforms' or key == 'pipeline' or key.endswith('_pipeline')
        if is_pipeline and 'type' not in node and all(isinstance(step, (dict, list)) for step in dict.values(node)):
            return list(dict.values(node))
    elif isinstance(node, list):
        node[:] = [_list_steps(value) for value in node]
    return node


def _followed(statement: ast.stmt, values: Mapping[str, Any]) -> Iterator[ast.stmt]:
    """Yields a statement and, for each of the names that it assigns, one that sets the name's value."""
    yield statement
    nodes = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    for name in sorted({node.id for node in nodes} & values.keys()):
        yield ast.copy_location(ast.parse(f'{name} = {_NAME}[{name!r}]').body[0], statement)
