"""Options for plain values at the top of a Python config, set while the config is executed."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

_VALUES: ContextVar[Mapping[str, Any] | None] = ContextVar('values', default=None)
_NAME = '__option_values__'


@contextmanager
def values_at_the_top(values: Mapping[str, Any]) -> Iterator[None]:
    """While open, every config and base that is read takes `values` for what it assigns to these names at its top.

    What a config computes from a value, such as the end of a schedule from `max_epochs`, then follows from the option.
    """
    token = _VALUES.set(values)
    try:
        yield
    finally:
        _VALUES.reset(token)


def take_option_values(mmengine_config: ModuleType) -> None:
    """Lets mmengine's parser of Python configs set the values of `values_at_the_top` behind each assignment."""
    if hasattr(mmengine_config.ImportTransformer, 'takes_option_values'):
        return

    class OptionTransformer(mmengine_config.ImportTransformer):
        takes_option_values = True

        def visit_Module(self, node: ast.Module) -> ast.Module:
            values = _VALUES.get()
            self.generic_visit(node)
            if values:
                self.global_dict[_NAME] = copy.deepcopy(dict(values))
                node.body = [part for statement in node.body for part in _followed(statement, values)]
            return node

    mmengine_config.ImportTransformer = OptionTransformer


def _followed(statement: ast.stmt, values: Mapping[str, Any]) -> Iterator[ast.stmt]:
    """Yields a statement and, for each of the names that it assigns, one that sets the name's value."""
    yield statement
    nodes = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    for name in sorted({node.id for node in nodes} & values.keys()):
        yield ast.copy_location(ast.parse(f'{name} = {_NAME}[{name!r}]').body[0], statement)
