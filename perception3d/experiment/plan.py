"""Reads an experiment file and finds its mistakes before anything is trained."""

from __future__ import annotations
import __future__

import ast
import re
import runpy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from perception3d.apis.config_names import find_config, find_experiment
from perception3d.checks import InputError, unknown_name
from perception3d.outputs import require_name

OUT = 'out'
PREPARE = 'prepare'
"""Name of the record of what was run before the cells, PREPARE.json next to the table."""
_KEYS = ('name', 'seeds', 'metrics', 'scale', 'unscaled', 'prepare', 'options', 'baseline', 'arms')
_ARM_KEYS = ('config', 'options', 'test_config', 'test_options', 'seeds', 'needs', 'baseline', 'extra')
_REFERENCE = re.compile(r'\{([^{}]*)\}')
_FILE_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]*')


@dataclass(frozen=True)
class Arm:
    """One row of the table: what is trained and tested, for each of its seeds.

    Args:
        options: config options of the training, those of the experiment included; strings may hold references.
        test_options: config options of the test, likewise.
        needs: arms whose cells come first.
        baseline: the arm that this one is compared with, if any.
        extra: fixed columns.
    """

    name: str
    config: Path
    options: dict[str, Any]
    test_config: Path
    test_options: dict[str, Any]
    seeds: tuple[int, ...]
    needs: tuple[str, ...]
    baseline: str | None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One arm with one seed, and the cells that it needs."""

    arm: str
    seed: int
    needs: tuple[Cell, ...] = ()

    @property
    def name(self) -> str:
        """'arm/seed0': its name in messages, and its folder."""
        return f'{self.arm}/seed{self.seed}'


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file.

    `prepare` are commands that run once; `scale` multiplies the metrics of the table but for those in `unscaled`.
    """

    file: Path
    name: str
    metrics: tuple[str, ...]
    scale: float
    prepare: tuple[tuple[str, ...], ...]
    arms: dict[str, Arm]
    unscaled: tuple[str, ...] = ()

    def scale_of(self, metric: str) -> float:
        """Returns what a metric is multiplied by in the table."""
        return 1.0 if metric in self.unscaled else self.scale

    def cells(self) -> list[Cell]:
        """Returns all cells, seed by seed, so that an experiment that was stopped has complete pairs to compare."""
        seeds = dict.fromkeys(seed for arm in self.arms.values() for seed in arm.seeds)
        return [self._cell(arm, seed) for seed in seeds for arm in self.arms.values() if seed in arm.seeds]

    def _cell(self, arm: Arm, seed: int) -> Cell:
        needs = []
        for name in arm.needs:
            other = self.arms[name]
            if seed not in other.seeds and len(other.seeds) > 1:
                raise InputError(f'arm {arm.name!r} with seed {seed} needs {name!r}, which has seeds {other.seeds}')
            needs.append(self._cell(other, seed if seed in other.seeds else other.seeds[0]))
        return Cell(arm.name, seed, tuple(needs))


def with_needs(cells: Iterable[Cell], everything: Sequence[Cell]) -> list[Cell]:
    """Returns `cells` and all that they need, in the order of `everything`."""
    chosen: set[Cell] = set()
    pending = list(cells)
    while pending:
        cell = pending.pop()
        if cell not in chosen:
            chosen.add(cell)
            pending += cell.needs
    return [cell for cell in everything if cell in chosen]


def fill(value: Any, texts: Mapping[str, str]) -> Any:
    """Replaces '{name}' in all strings of a nested value by `texts[name]`."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: texts[match.group(1)], value)
    if isinstance(value, Mapping):
        return {key: fill(item, texts) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(fill(item, texts) for item in value)
    return value


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _REFERENCE.findall(value)
    elif isinstance(value, Mapping):
        yield from _references(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)


def read_experiment(path: str | Path) -> Experiment:
    """Reads and checks an experiment file, which is Python code that is run, such as

    >>> name = 'distillation'  # of the table; by default that of the file
    >>> seeds = (0, 1, 2)
    >>> metrics = ('nuscenes/mAP', 'nuscenes/NDS')  # by their names in tools/test.py
    >>> scale = 100.0  # of the metrics in the table; by default 1
    >>> unscaled = ('culane/fp/cross',)  # metrics that `scale` leaves as they are, such as counts
    >>> prepare = [['tools/simulate.py', 'nuscenes', '--out', '{out}/data']]  # commands that run once, first
    >>> options = {'data_root': '{out}/data'}  # config options of every training and test
    >>> baseline = 'student'  # the arm that the others are compared with
    >>> arms = {
    ...     'teacher': dict(config='teacher.py', seeds=(0,), baseline=None),
    ...     'student': dict(config='student.py', options={'model.neck.width': 32}, extra={'GMACs': 3.1}),
    ...     'distilled': dict(
    ...         config='distilled.py', options={'model.teacher_checkpoint': '{teacher}'}, test_config='student.py'
    ...     ),
    ... }

    '{out}' is the output folder, '{teacher}' the final checkpoint of the arm teacher with the same seed, or with its
    only seed. An arm needs what it refers to, and what `needs` names. The test takes the options of the training,
    except where the arm has a test_config: then those of the experiment and `test_options`. Configs are relative to the
    file. Helpers of the file are functions, imports, and names in upper case or with a leading underscore; everything
    else must be a key of an experiment.

    Raises:
        InputError: it is not a .py file, or does not run; an unknown key or arm; a missing config; arms that need each
            other; a seed or an arm twice; a reference '{...}' to nothing.
    """
    path = find_experiment(path).resolve()
    if path.suffix != '.py':
        raise InputError(f'{path}: expected a Python file (.py), since it is run')
    try:
        return _build(path, _run(path))
    except InputError as error:
        raise InputError(f'{path}: {error}') from error


def _run(path: Path) -> dict[str, Any]:
    try:
        _refuse_double_keys(ast.parse(path.read_text(encoding='utf-8')))
        content = runpy.run_path(str(path))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f'does not run as an experiment: {type(error).__name__}: {error}') from error
    return {key: value for key, value in content.items() if not _is_helper(key, value)}


def _refuse_double_keys(tree: ast.Module) -> None:
    """Raises InputError for equal keys: Python silently keeps the last one, and an arm would be lost."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Dict):
            continue
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        double = [key for key in keys if keys.count(key) > 1]
        if double:
            raise InputError(f'line {node.lineno}: the key {double[0]!r} appears twice in one dict')


def _is_helper(key: str, value: Any) -> bool:
    imported = isinstance(value, ModuleType) or key in __future__.all_feature_names
    return key.startswith('_') or key.isupper() or callable(value) or imported


def _build(path: Path, values: Mapping[str, Any]) -> Experiment:
    _check_keys(values, _KEYS, ('seeds', 'metrics', 'arms'))
    name = values.get('name', path.stem)
    if not (isinstance(name, str) and _FILE_NAME.fullmatch(name)) or name == PREPARE:
        raise InputError(f'name = {name!r}: expected a file name of letters, digits and _.-, and not {PREPARE!r}')
    require_name(name, 'name')
    scale = values.get('scale', 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < float('inf'):
        raise InputError(f'scale = {scale!r}: expected a number above 0, such as 100.0')
    arms = _arms(path.parent, values)
    prepare = _prepare(values.get('prepare', ()))
    metrics = _texts('metrics', values['metrics'])
    unscaled = _texts('unscaled', values.get('unscaled', ()), may_be_empty=True)
    for metric in unscaled:
        if metric not in metrics:
            raise InputError(f'unscaled: {unknown_name("metric", metric, metrics)}')
    experiment = Experiment(path, name, metrics, float(scale), prepare, arms, unscaled)
    _refuse_cycles(arms)
    experiment.cells()  # raises where an arm that is needed does not have the seed
    return experiment


def _arms(folder: Path, values: Mapping[str, Any]) -> dict[str, Arm]:
    raw = _mapping('arms', values['arms'])
    if not raw:
        raise InputError('arms is empty: give at least one, such as arms = {"student": dict(config="student.py")}')
    baseline, options = values.get('baseline'), _options('options', values.get('options', {}))
    _check_arm('baseline', baseline, raw)
    arms = {}
    for name, fields in raw.items():
        if not _FILE_NAME.fullmatch(name) or name == OUT:
            raise InputError(f'arm {name!r}: expected a name of letters, digits and _.-, and not {OUT!r}')
        require_name(name, 'arm')
        try:
            common = {'seeds': values['seeds'], 'baseline': baseline, **_mapping('its value', fields)}
            arms[name] = _arm(folder, name, common, options, raw)
        except InputError as error:
            raise InputError(f'arm {name!r}: {error}') from error
    return arms


def _arm(folder: Path, name: str, fields: Mapping[str, Any], shared: dict[str, Any], names: Iterable[str]) -> Arm:
    _check_keys(fields, _ARM_KEYS, ('config',))
    own = _options('options', fields.get('options', {}))
    # A separate test config does not have the options of the training's config.
    inherited = shared if 'test_config' in fields else {**shared, **own}
    test_options = {**inherited, **_options('test_options', fields.get('test_options', {}))}
    options = {**shared, **own}
    referred = [text for text in _references([options, test_options]) if text != OUT]
    needs = tuple(dict.fromkeys([*_texts('needs', fields.get('needs', ()), may_be_empty=True), *referred]))
    for other in needs:
        _check_arm('needs, or a reference in braces', other, names)
    _check_arm('baseline', fields['baseline'], names)
    extra = _mapping('extra', fields.get('extra', {}))
    for key, value in extra.items():
        if not isinstance(value, (int, float, str)):
            raise InputError(f'extra[{key!r}] is {value!r}: expected a number or a text')
    config = _config('config', folder, fields['config'])
    test_config = _config('test_config', folder, fields.get('test_config', fields['config']))
    baseline = fields['baseline'] if fields['baseline'] != name else None
    return Arm(name, config, options, test_config, test_options, _seeds(fields['seeds']), needs, baseline, dict(extra))


def _check_keys(values: Mapping[str, Any], known: Sequence[str], needed: Sequence[str]) -> None:
    for key in values:
        if key not in known:
            raise unknown_name('key', key, known)
    for key in needed:
        if key not in values:
            raise InputError(f'{key} is missing')


def _check_arm(key: str, name: Any, names: Iterable[str]) -> None:
    if name is not None and not (isinstance(name, str) and name in names):
        raise InputError(f'{key}: {unknown_name("arm", name, names)}')


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InputError(f'{key} is {value!r}: expected a dict with names as keys')
    return value


def _options(key: str, value: Any) -> dict[str, Any]:
    options = dict(_mapping(key, value))
    for option in options:
        if option.lstrip('+') == 'randomness.seed':
            raise InputError(f'{key} sets {option}: name the seeds in `seeds`')
    return options


def _texts(key: str, value: Any, may_be_empty: bool = False) -> tuple[str, ...]:
    listed = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    if not listed or not (value or may_be_empty):
        raise InputError(f'{key} is {value!r}: expected a tuple of names, such as ("a", "b")')
    return tuple(value)


def _seeds(value: Any) -> tuple[int, ...]:
    listed = isinstance(value, (list, tuple, range)) and all(type(seed) is int and seed >= 0 for seed in value)
    if not listed or not value:
        raise InputError(f'seeds is {value!r}: expected a tuple of integers from 0 on, such as (0, 1, 2)')
    if len(set(value)) < len(value):
        raise InputError(f'seeds is {value!r}: a seed appears twice')
    return tuple(value)


def _config(key: str, folder: Path, value: Any) -> Path:
    if not isinstance(value, (str, Path)):
        raise InputError(f'{key} is {value!r}: expected the path of a config')
    own = (folder / value).resolve()
    try:
        return find_config(own if own.is_file() else value).resolve()
    except InputError as error:
        raise InputError(f'{key}, relative to the experiment file: {error}') from error


def _prepare(value: Any) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(line, (list, tuple)) and line for line in value):
        raise InputError(f'prepare is {value!r}: expected a list of commands, each a list of words')
    commands = tuple(tuple(str(word) for word in line) for line in value)
    for text in _references(commands):
        if text != OUT:
            raise InputError(f'prepare refers to {{{text}}}: only {{{OUT}}} is known before the cells run')
    return commands


def _refuse_cycles(arms: Mapping[str, Arm]) -> None:
    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise InputError(f'arms need each other: {" -> ".join([*above[above.index(name) :], name])}')
        for other in arms[name].needs:
            visit(other, (*above, name))

    for name in arms:
        visit(name, ())
