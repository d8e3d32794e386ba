"""The layers of the package: who may import whom. And no file, function or name that outgrew its purpose."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'perception3d'
FILES = sorted(PACKAGE.rglob('*.py'))
TOOLS = sorted((ROOT / 'tools').glob('*.py'))
CONFIGS = sorted((ROOT / 'configs').rglob('*.py'))


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


# Layer of each part; those of one whole number may not import each other. Where the fraction differs, a part may import
# those with a smaller one.
LAYERS = {
    'checks': 0, 'pickle_scan': 0.1, 'outputs': 0.2, 'pickles': 0.2, 'weight_values': 0.2, 'workers': 0.2,
    'files': 0.5, 'checkpoints': 0.6, 'training_folder': 0.7, 'locks': 0.7,
    'geometry': 1, 'structures': 1.1,
    'ops': 2,
    'compat': 3, 'registry': 3.1,
    'simulation': 4, 'datasets': 4, 'evaluation': 4, 'models': 4, 'distill': 4, 'visualization': 4, 'export': 4,
    'formats': 5, 'engine': 5,
    'apis': 6,
    'benchmark': 7, 'experiment': 7.1,
}  # fmt: skip

# Parts of models/ that the systems share; the systems, one folder each, do not import each other.
SHARED_MODELS = {'blocks', 'heads', 'inference'}
# A format may build on another one, without circles.
FORMATS_BUILT_ON: dict[str, set[str]] = {'nuscenes_lidarseg': {'nuscenes'}}


def _imports(path):
    """Yields (line, dotted name) of everything that a file imports from this package, lazily or at its top."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith('perception3d'):
            names = [node.module] if node.module != 'perception3d' else [f'perception3d.{a.name}' for a in node.names]
            yield from ((node.lineno, name) for name in names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.startswith('perception3d.'))
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f'{path}:{node.lineno} imports relatively: write the whole name')


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
    for tool in TOOLS:
        allowed = (
            'apis', 'benchmark', 'experiment', 'checks', 'checkpoints', 'training_folder', 'files', 'locks', 'outputs',
            'workers', 'simulation', 'evaluation', 'datasets',
        )  # fmt: skip
        assert all(name.split('.')[1] in allowed for _, name in _imports(tool)), tool
        text = tool.read_text()
        assert 'run_tool' in text and ast.get_docstring(_tree(tool)), tool


def test_pytest_finds_every_test_file():
    # Without packages, pytest takes two files of one name for the same module and stops.
    names = sorted(path.name for path in (ROOT / 'tests').rglob('test_*.py'))
    assert names == sorted(set(names))


def test_files_and_functions_stay_small():
    large = []
    for path in [*FILES, *TOOLS, *CONFIGS]:
        text = path.read_text()
        if text.count('\n') > 400:
            large.append(f'{path.name}: {text.count(chr(10))} lines')
        for node in ast.walk(_tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno + 1 > 60:
                large.append(f'{path.name}:{node.lineno} {node.name}')
    assert not large, '\n'.join(large)


def test_public_names_have_docstrings():
    bare = []
    for path in FILES:
        for node in _tree(path).body:
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
        for path in CONFIGS
        for node in ast.walk(_tree(path))
        if _numbered(node) or (isinstance(node, ast.Attribute) and node.attr == 'insert')
    ]
    assert not wrong, '\n'.join(wrong)
    assert _numbered(ast.parse('val_dataloader.dataset.pipeline[-1]').body[0].value)
    assert _numbered(ast.parse('steps[2:4]').body[0].value) and not _numbered(ast.parse("steps['a']").body[0].value)


# Layers that ask a model, data set or metric for a method or an attribute, and know no class of them.
WITHOUT_CLASSES = ('apis', 'engine', 'experiment', 'benchmark', 'visualization')
# Packages whose classes are such models, data sets and metrics; a Format is the contract of all plugins.
_CONCRETE = re.compile(
    r'perception3d\.(models|datasets|formats(?!\.Format$)|visualization|distill|evaluation|simulation)\b'
    r'|(mmdet3d|mmdet)\.(models|datasets|evaluation)\b'
)


def _concrete_classes():
    """The names of our own concrete classes."""
    return {
        node.name
        for path in FILES
        if _CONCRETE.match('.'.join(['perception3d', *path.relative_to(PACKAGE).with_suffix('').parts]))
        for node in _tree(path).body
        if isinstance(node, ast.ClassDef)
    }


def _names(node):
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _asks_for_a_name(node):
    return isinstance(node, ast.Attribute) and node.attr in ('__name__', '__qualname__')


def _asks_for_a_type(node):
    return (isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'type') or (
        isinstance(node, ast.Attribute) and node.attr == '__class__'
    )


def _class_checks(tree: ast.AST, own: set[str]) -> Iterator[tuple[int, str]]:
    """Yields (line, text) of each place that asks which concrete class something is of.

    `isinstance`, `issubclass`, a `case`, or a comparison with a class that is imported from a package of concrete
    classes; a comparison of a class's name, or with the name of one of `own`.
    """
    imported = {
        alias.asname or alias.name.partition('.')[0] if isinstance(node, ast.Import) else alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
        if _CONCRETE.match(f'{node.module}.{alias.name}' if isinstance(node, ast.ImportFrom) else alias.name)
    }
    for node in ast.walk(tree):
        wrong = False
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in ('isinstance', 'issubclass'):
            wrong = bool(_names(node.args[1]) & imported)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            wrong = any(map(_asks_for_a_name, sides)) or any(
                isinstance(part, ast.Constant) and part.value in own for side in sides for part in ast.walk(side)
            )
            wrong |= any(map(_asks_for_a_type, sides)) and any(_names(side) & imported for side in sides)
        elif isinstance(node, ast.MatchClass):
            wrong = bool(_names(node.cls) & imported)
        elif isinstance(node, ast.Call) and getattr(node.func, 'attr', '') in ('startswith', 'endswith'):
            wrong = _asks_for_a_name(node.func.value)
        if wrong:
            yield node.lineno, ast.unparse(node)


def test_no_class_checks_above_the_parts():
    own = _concrete_classes()
    wrong = [
        f'{path.relative_to(ROOT)}:{line} {text}'
        for part in WITHOUT_CLASSES
        for path in sorted((PACKAGE / part).rglob('*.py'))
        for line, text in _class_checks(_tree(path), own)
    ]
    assert not wrong, 'give the class a method or attribute for what differs:\n' + '\n'.join(wrong)


def test_the_check_of_class_checks_can_fail():
    begin = 'from perception3d.models.fast_bev.detector import FastBEV\nfrom perception3d.distill import distiller\n'
    for line in (
        'isinstance(model, (nn.Module, FastBEV))',
        'isinstance(model, distiller.Distiller)',
        'type(model) is FastBEV',
        'model.__class__ in (FastBEV, 1)',
        'type(model).__name__ == name',
        "type(model).__name__.startswith('Fast')",
        "config['type'] == 'FastBEV'",
    ):
        assert list(_class_checks(ast.parse(begin + line), {'FastBEV'})), line
    for line in ('isinstance(model, nn.Module)', 'FastBEV(1) == model', 'type(seed) is int', 'type(model).__name__'):
        assert not list(_class_checks(ast.parse(begin + line), {'FastBEV'})), line


# Functions of 8 or more arguments. Free of them: constructors of registered classes, whose arguments are keys of
# configs; kernels of numba, which take arrays one by one; `compat`, whose functions have the arguments of upstream's.
MANY_ARGUMENTS = {
    'ops/deform_conv.py modulated_deform_conv2d': 'those of the convolution of torchvision and mmcv',
    'visualization/visualizer.py add_datasample': 'those of the method of mmengine that it overrides',
}


def _is_kernel(node):
    return any('njit' in ast.unparse(decorator) for decorator in node.decorator_list)


def test_few_functions_have_many_arguments():
    many = []
    for path in [path for path in FILES if path.relative_to(PACKAGE).parts[0] != 'compat']:
        tree = _tree(path)
        constructors = {
            id(item)
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and any('register' in ast.unparse(part) for part in node.decorator_list)
            for item in node.body
            if getattr(item, 'name', '') == '__init__'
        }
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or id(node) in constructors:
                continue
            names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if len([name for name in names if name not in ('self', 'cls')]) >= 8 and not _is_kernel(node):
                many.append(f'{path.relative_to(PACKAGE)} {node.name}')
    assert len(MANY_ARGUMENTS) <= 5 and sorted(many) == sorted(MANY_ARGUMENTS)


# Functions and classes that nothing but tests uses yet.
FOR_LATER = {
    'Lanes': 'structure of the lane systems',
    'Tracks': 'structure of the crowd system',
    'box_iou': 'IoU of volumes, by which JRDB matches boxes',
}


def _used_names() -> Counter[str]:
    """How often each name stands in modules, tools and configs: as a name, an attribute, or a text of its own."""
    count: Counter[str] = Counter()
    for path in [*FILES, *TOOLS, *CONFIGS]:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Name):
                count[node.id] += 1
            elif isinstance(node, ast.Attribute):
                count[node.attr] += 1
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                count[node.value] += 1
    return count


def test_every_function_and_class_has_a_user():
    count = _used_names()
    unused = []
    for path in FILES:
        for node in _tree(path).body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith('_'):
                continue
            # Configs of users name what is registered; a function that calls itself has no user yet.
            registered = any('register' in ast.unparse(decorator) for decorator in node.decorator_list)
            own = sum(getattr(part, 'id', '') == node.name for part in ast.walk(node))
            if not registered and count[node.name] <= own:
                unused.append(node.name)
    assert sorted(unused) == sorted(FOR_LATER), 'move it into tests, give it a user, or list it with the reason'


def test_names_of_configs_begin_with_their_folder_and_leaves_are_short():
    leaves = [path for path in (ROOT / 'configs').glob('*/*.py') if path.parent.name not in ('_base_', 'experiments')]
    wrong = [f'{path.parent.name}/{path.name}' for path in leaves if not path.name.startswith(path.parent.name)]
    # A bare 4x reads as a schedule: c4 is a compression.
    wrong += [path.name for path in leaves if re.search(r'(?<![0-9])(2|4|8|16)x_', path.name)]
    wrong += [f'{path.name}: more than 60 lines' for path in leaves if path.read_text().count('\n') > 60]
    assert leaves and not wrong, '\n'.join(wrong)
