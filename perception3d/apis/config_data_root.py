"""Reads from the source of a Python config where its data are, without running it.

The answer comes before torch and mmdet3d are imported, so that a wrong folder is told at once. It is None wherever the
source leaves room for another one; the data sets check their files again when they are read.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from perception3d.apis.config_sources import base_file, base_imports, base_name

_KEY = 'data_root'
_FORMATS = 'perception3d.formats.'


def data_root_of(path: Path, trees: Mapping[Path, ast.Module], options: Mapping[str, Any]) -> str | None:
    """Returns `data_root` of a config if all its parts have it from the top of the config; else None.

    Args:
        path: the config.
        trees: the syntax trees of it and its bases (`config_sources.read_sources`).
        options: the options of the command, by their keys.
    """
    named = {key.lstrip('+'): value for key, value in options.items()}
    if any(key.endswith((f'.{_KEY}', '.ann_file')) for key in named):
        return None
    assigned = _assigned(path.resolve(), trees)
    if not all(_is_from_top(use, assigned) for use in _uses(trees)):
        return None
    # An option for the top reaches all parts that have the value of the top.
    root = named.get(_KEY, assigned)
    return root if isinstance(root, str) and '://' not in root else None


def format_of(trees: Mapping[Path, ast.Module]) -> str:
    """Returns the name of the data format that a config, or else the nearest of its bases, imports; '' for none."""
    for tree in trees.values():
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith(_FORMATS):
                return str(node.module).removeprefix(_FORMATS).partition('.')[0].replace('_', '-')
    return ''


def _uses(trees: Mapping[Path, ast.Module]) -> Iterator[ast.AST]:
    """Yields each place that gives a data root, or a path of its own, to a part."""
    for node in (node for tree in trees.values() for node in ast.walk(tree)):
        if isinstance(node, ast.keyword) and node.arg == _KEY:
            yield node.value
        elif isinstance(node, ast.keyword) and node.arg == 'ann_file':
            yield from [node] if _is_absolute(node.value) else []
        elif isinstance(node, ast.Attribute):
            yield from [node] if node.attr in (_KEY, 'ann_file') else []
        elif isinstance(node, ast.Constant) and node.value == _KEY:
            yield node


def _is_absolute(value: ast.AST) -> bool:
    return isinstance(value, ast.Constant) and Path(str(value.value)).is_absolute()


def _is_from_top(use: ast.AST, assigned: str | None) -> bool:
    """Whether a part has the value at the top: by its name or, in a config that was written by a run, as a text."""
    by_name = isinstance(use, ast.Name) and use.id == _KEY
    return by_name or (assigned is not None and isinstance(use, ast.Constant) and use.value == assigned)


def _assigned(source: Path, trees: Mapping[Path, ast.Module]) -> str | None:
    """Returns the text that a config, or the base that it takes it from, assigns to data_root."""
    tree = trees.get(source)
    root, is_setting = None, False
    bases = {id(node) for node in base_imports(tree)} if tree else set()
    for statement in tree.body if tree else ():
        reads = [node for node in ast.walk(statement) if id(node) in bases]
        for node in reads:
            # Bases take what is assigned above them.
            taken = isinstance(node, ast.ImportFrom) and any(name.name in ('*', _KEY) for name in node.names)
            if taken and not is_setting and isinstance(node, ast.ImportFrom):
                root = _assigned(base_file(source, base_name(node)), trees) or root
        if not reads and _stores(statement):
            value = statement.value if isinstance(statement, ast.Assign) else None
            root = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
            is_setting = True
    return root


def _stores(statement: ast.stmt) -> bool:
    nodes = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return any(node.id == _KEY for node in nodes)
