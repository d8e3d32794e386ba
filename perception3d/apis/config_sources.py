"""Checks of a Python config's source: the traps of mmengine's configs that nothing would tell."""

from __future__ import annotations

import ast
from pathlib import Path

from perception3d.apis.config_names import renamed_config
from perception3d.checks import InputError


def check_source(path: Path) -> None:
    """Refuses what mmengine would ignore, alias or lose without a word, in the config `path` and in all its bases.

    Raises:
        InputError: names the file and, where there is one, the line.
    """
    for source, tree in read_sources(path).items():
        _check_base_assignment(source, tree)
        _check_unused_backends(source, tree)
        _check_lost_hooks(source, tree)


def read_sources(path: Path) -> dict[Path, ast.Module]:
    """Returns the syntax tree of the Python config `path` and of each of its bases that a relative import names.

    Raises:
        InputError: a file is not Python, reads one base twice, or reads one that has another name now; or `path` is an
            experiment file.
    """
    pending, trees = [path.resolve()], {}
    while pending:
        source = pending.pop(0)
        if source in trees:
            continue
        if not source.is_file():
            _refuse_renamed(path, source)
            continue
        trees[source] = parse_source(source)
        if len(trees) == 1:
            _refuse_experiment(path, trees[source])
        pending += _check_double_bases(source, trees[source])
    return trees


def is_experiment(tree: ast.Module) -> bool:
    """Whether a Python file assigns what an experiment file does, the arms, and no model."""
    names = {target.id for node in tree.body for target in _targets(node) if isinstance(target, ast.Name)}
    return 'arms' in names and 'model' not in names


def is_config(tree: ast.Module) -> bool:
    """Whether a Python file assigns a model, or reads bases as a config does."""
    names = {target.id for node in tree.body for target in _targets(node) if isinstance(target, ast.Name)}
    return 'arms' not in names and ('model' in names or bool(base_imports(tree)))


def _targets(node: ast.stmt) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []


def parse_source(source: Path, what: str = 'a config') -> ast.Module:
    """Returns the syntax tree of a Python file; raises InputError, with `what` it should be, if it is not Python."""
    try:
        return ast.parse(source.read_text(encoding='utf-8'), str(source))
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f'{source} is not {what}: it is not Python ({error})') from error


def _refuse_experiment(path: Path, tree: ast.Module) -> None:
    if is_experiment(tree):
        raise InputError(
            f'{path} is an experiment file, not a config: run it with python tools/experiment.py {path}, or give a '
            'config that one of its arms names'
        )


def _refuse_renamed(path: Path, base: Path) -> None:
    new = renamed_config(base)
    if new:
        raise InputError(f'{path} reads the base {base}, which is called {new} now: correct the name')


def _check_base_assignment(source: Path, tree: ast.Module) -> None:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == '_base_' for target in targets):
            raise InputError(
                f'{source}:{node.lineno} sets _base_, which a Python config ignores: '
                'write `with read_base():` and `from .base import *` under it'
            )


def _check_unused_backends(source: Path, tree: ast.Module) -> None:
    """Refuses a new list at the top of a config: the visualizer of its base keeps the one that it was given."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    lines = [node.lineno for node in names if node.id == 'vis_backends' and isinstance(node.ctx, ast.Store)]
    if lines and not any(node.id == 'visualizer' for node in names):
        raise InputError(
            f'{source}:{lines[0]} sets vis_backends, which no visualizer takes: write `visualizer.vis_backends = [...]`'
        )


def base_imports(tree: ast.Module) -> list[ast.ImportFrom]:
    """Returns the imports under `with read_base()`."""
    blocks = [node for node in tree.body if isinstance(node, ast.With)]
    blocks = [block for block in blocks if 'read_base' in ast.dump(block.items[0].context_expr)]
    return [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]


def _check_double_bases(source: Path, tree: ast.Module) -> list[Path]:
    """Returns the files of the bases that `source` reads; refuses one that is read twice under two names."""
    bases: dict[str, int] = {}
    for node in base_imports(tree):
        name = base_name(node)
        if name in bases:
            raise InputError(
                f'{source}:{node.lineno} reads the base {name} twice (first in line {bases[name]}): both names '
                'would share one object; read it once and copy.deepcopy what must differ'
            )
        bases[name] = node.lineno
    return [base_file(source, name) for name in bases if name.startswith('.')]


def _check_lost_hooks(source: Path, tree: ast.Module) -> None:
    """Refuses two bases with `custom_hooks` each: those of the first would be lost."""
    setting = [node for node in base_imports(tree) if _takes_hooks(source, node)]
    if len(setting) > 1 and not _assigns_hooks(tree):
        first, second = setting[0], setting[-1]
        raise InputError(
            f'{source}:{second.lineno}: the bases {base_name(first)} and {base_name(second)} both set custom_hooks, '
            'so those of the first would be lost: write `custom_hooks = [...]` with all of them below'
        )


def _takes_hooks(source: Path, node: ast.ImportFrom) -> bool:
    """Whether an import of a base takes `custom_hooks` that the base, or a base of it, sets."""
    if not node.level or not any(alias.name in ('*', 'custom_hooks') for alias in node.names):
        return False
    base = base_file(source, base_name(node))
    try:
        tree = ast.parse(base.read_text(encoding='utf-8'))
    except (OSError, SyntaxError, ValueError):
        # The loop over the sources says so.
        return False
    return _assigns_hooks(tree) or any(_takes_hooks(base, inner) for inner in base_imports(tree))


def _assigns_hooks(tree: ast.Module) -> bool:
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return any(node.id == 'custom_hooks' for node in names)


def base_name(node: ast.ImportFrom) -> str:
    """Returns the name of the base that an import reads, with a dot for each level."""
    return '.' * node.level + (node.module or '')


def base_file(source: Path, name: str) -> Path:
    """Returns the file of a base by its relative name in the config `source`."""
    level = len(name) - len(name.lstrip('.'))
    folder = source.parents[level - 1]
    return folder.joinpath(*name.lstrip('.').split('.')).with_suffix('.py')
