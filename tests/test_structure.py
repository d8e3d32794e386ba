"""The layers of the package: who may import whom. And no file or function that outgrew its purpose."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'perception3d'
FILES = sorted(PACKAGE.rglob('*.py'))

# Layer of each part; those of one whole number may not import each other. Where the fraction differs, a part may import
# those with a smaller one.
LAYERS = {
    'checks': 0, 'pickle_scan': 0.1, 'outputs': 0.2, 'pickles': 0.2, 'weight_values': 0.2, 'workers': 0.2,
    'files': 0.5, 'checkpoints': 0.6, 'locks': 0.7,
    'geometry': 1, 'structures': 1.1,
    'ops': 2,
    'compat': 3, 'registry': 3.1,
    'simulation': 4, 'datasets': 4, 'evaluation': 4, 'models': 4, 'distill': 4, 'visualization': 4, 'export': 4,
    'formats': 5, 'engine': 5,
    'apis': 6,
    'benchmark': 7, 'experiment': 7.1,
}  # fmt: skip

# Parts of models/ that the systems share; the systems, one folder each, do not import each other.
SHARED_MODELS = {'blocks', 'camera_batch', 'heads', 'inference'}
# A format may build on another one, without circles.
FORMATS_BUILT_ON: dict[str, set[str]] = {}


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
    return parts[1], parts[2] if parts[1] in ('models', 'formats') and len(parts) > 2 else ''


def _rises(importer, imported):
    (part, member), (other, other_member) = importer, imported
    if other not in LAYERS:
        return False
    if part != other:
        return LAYERS[other] >= LAYERS[part]
    if not member or not other_member or member == other_member:
        return False
    if part == 'models':
        return other_member not in SHARED_MODELS
    return other_member not in FORMATS_BUILT_ON.get(member, ())


def test_every_part_has_a_layer():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix('.py') for path in FILES} - {'__init__', '__pycache__'}
    assert parts <= LAYERS.keys()


def test_nobody_imports_from_above():
    wrong = []
    for path in FILES:
        relative = path.relative_to(PACKAGE)
        if relative.name == '__init__.py' and len(relative.parts) == 1:
            continue
        importer = _part('.'.join(['perception3d', *relative.with_suffix('').parts]))
        wrong += [f'{relative}:{line} imports {name}' for line, name in _imports(path) if _rises(importer, _part(name))]
    assert not wrong, '\n'.join(wrong)


def test_the_check_of_layers_can_fail():
    assert _rises(('geometry', ''), ('datasets', ''))
    assert _rises(('datasets', ''), ('evaluation', ''))
    assert _rises(('models', 'fast_bev'), ('models', 'lane'))
    assert _rises(('formats', 'kitti'), ('formats', 'nuscenes'))
    assert _rises(('formats', 'kitti'), ('engine', ''))
    assert not _rises(('models', 'fast_bev'), ('models', 'blocks'))
    assert not _rises(('formats', 'kitti'), ('datasets', ''))
    assert not _rises(('apis', ''), ('engine', ''))


def test_tools_call_the_package_and_explain_themselves():
    for tool in sorted((ROOT / 'tools').glob('*.py')):
        allowed = (
            'apis', 'benchmark', 'experiment', 'checks', 'checkpoints', 'files', 'locks', 'outputs', 'workers',
            'simulation', 'evaluation', 'datasets',
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


def test_world_builds_what_the_renderer_draws():
    # One direction only: capture.py joins the two.
    wrong = []
    for part, known in (('render', ('render',)), ('world', ('render', 'world'))):
        for path in sorted((PACKAGE / 'simulation' / part).rglob('*.py')):
            for line, name in _imports(path):
                if name.startswith('perception3d.simulation') and name.split('.')[2] not in known:
                    wrong.append(f'{part}/{path.name}:{line} imports {name}')
    assert not wrong, '\n'.join(wrong)


def _numbered(node):
    """Whether an expression takes an element, or a slice, of a pipeline by its number."""
    if not isinstance(node, ast.Subscript) or not re.search('pipeline|steps|transforms', ast.unparse(node.value)):
        return False
    parts = [node.slice.lower, node.slice.upper] if isinstance(node.slice, ast.Slice) else [node.slice]
    return any(isinstance(part, (ast.Constant, ast.UnaryOp)) and not isinstance(getattr(part, 'value', 0), str)
               for part in parts)  # fmt: skip


def test_configs_name_the_steps_of_a_pipeline():
    wrong = [
        f'{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}'
        for path in sorted((ROOT / 'configs').rglob('*.py'))
        for node in ast.walk(ast.parse(path.read_text()))
        if _numbered(node) or (isinstance(node, ast.Attribute) and node.attr == 'insert')
    ]
    assert not wrong, '\n'.join(wrong)
    assert _numbered(ast.parse('val_dataloader.dataset.pipeline[-1]').body[0].value)
    assert _numbered(ast.parse('steps[2:4]').body[0].value) and not _numbered(ast.parse("steps['a']").body[0].value)
