"""The floors of the house: who may import whom. And no file or function that outgrew its purpose."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'perception3d'
FILES = sorted(PACKAGE.rglob('*.py'))

# Floor of each part; the parts of floor 3 may not import each other, nor one model another.
FLOORS = {
    'checks': 0, 'outputs': 0.2, 'pickles': 0.2, 'weight_values': 0.2, 'workers': 0.2,
    'pickle_scan': 0.1, 'files': 0.5, 'checkpoints': 0.6, 'locks': 0.7,
    'geometry': 1, 'nuscenes_tables': 1, 'kitti_files': 1, 'lidar_files': 1,
    'compat': 2, 'registry': 2,
    'simulation': 3, 'datasets': 3, 'models': 3, 'distill': 3, 'evaluation': 3, 'visualization': 3,
    'engine': 4,
    'apis': 5,
}  # fmt: skip

# What several systems share is a file of models/; each system is a folder.
SHARED_MODELS = {path.stem for path in (PACKAGE / 'models').glob('*.py')}


def _imports(path):
    """Yields (line, dotted name) of everything that a file imports from this package, lazily or at its top."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith('perception3d'):
            names = [node.module] if node.module != 'perception3d' else [f'perception3d.{a.name}' for a in node.names]
            yield from ((node.lineno, name) for name in names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.startswith('perception3d.'))


def _part(name):
    parts = name.split('.')
    return parts[1], parts[2] if parts[1] == 'models' and len(parts) > 2 else ''


def _rises(importer, imported):
    (part, model), (other, other_model) = importer, imported
    if other not in FLOORS:
        return False
    same = part == other and (not model or not other_model or model == other_model)
    shared = part == 'models' and other_model in SHARED_MODELS
    return not (same or shared) and FLOORS[other] >= FLOORS[part]


def test_every_part_has_a_floor():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix('.py') for path in FILES} - {'__init__', '__pycache__'}
    assert parts <= FLOORS.keys()


def test_nobody_imports_from_above():
    wrong = []
    for path in FILES:
        relative = path.relative_to(PACKAGE)
        if relative.name == '__init__.py' and len(relative.parts) == 1:
            continue
        importer = _part('.'.join(['perception3d', *relative.with_suffix('').parts]))
        wrong += [f'{relative}:{line} imports {name}' for line, name in _imports(path) if _rises(importer, _part(name))]
    assert not wrong, '\n'.join(wrong)


def test_the_check_of_floors_can_fail():
    assert _rises(('geometry', ''), ('datasets', ''))
    assert _rises(('datasets', ''), ('evaluation', ''))
    assert _rises(('models', 'fast_bev'), ('models', 'lane'))
    assert not _rises(('models', 'fast_bev'), ('models', 'blocks'))
    assert not _rises(('apis', ''), ('engine', ''))


def test_tools_lean_on_the_package_alone_and_explain_themselves():
    for tool in sorted((ROOT / 'tools').glob('*.py')):
        allowed = (
            'apis', 'checks', 'checkpoints', 'files', 'locks', 'outputs', 'workers', 'simulation', 'evaluation',
            'datasets',
        )  # fmt: skip
        assert all(name.split('.')[1] in allowed for _, name in _imports(tool)), tool
        text = tool.read_text()
        assert 'run_tool' in text and ast.get_docstring(ast.parse(text)), tool


def test_pytest_finds_every_test_file():
    # Without packages, pytest takes two files of one name for the same module and stops.
    names = sorted(path.name for path in (ROOT / 'tests').rglob('test_*.py'))
    assert names == sorted(set(names))


def test_files_and_functions_stay_small():
    large = []
    for path in [*FILES, *sorted((ROOT / 'tools').glob('*.py')), *sorted((ROOT / 'configs').rglob('*.py'))]:
        text = path.read_text()
        if text.count('\n') > 400:
            large.append(f'{path.name}: {text.count(chr(10))} lines')
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno + 1 > 60:
                large.append(f'{path.name}:{node.lineno} {node.name}')
    assert not large, '\n'.join(large)


def test_public_names_have_docstrings():
    bare = []
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith('_')
            if public and not ast.get_docstring(node):
                bare.append(f'{path.relative_to(PACKAGE)}:{node.lineno} {node.name}')
    assert not bare, '\n'.join(bare)


def test_the_table_of_faults_names_tests_that_exist():
    missing, file = [], None
    for name, test in re.findall(
        r'`(tests/[\w/]+\.py)?((?:::\w+)*)`', (ROOT / 'docs' / 'results' / 'faults.md').read_text()
    ):
        file = ROOT / name if name else file
        if name or test:
            text = file.read_text() if file.is_file() else ''
            missing += [f'{file.name}{test}' for part in test.split('::') if part not in text or not text]
    assert file and not missing, missing
