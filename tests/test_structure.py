"""The layers of the package: who may import whom. And no file, function or name that outgrew its purpose."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest
from source_files import CONFIGS, FILES, MODULES, PACKAGE, ROOT, TOOLS, module_name, nodes_of, tree_of

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

# Layer of each part; those of one whole number may not import each other. Where the fraction differs, a part may import
# those with a smaller one.
LAYERS = {
    'checks': 0, 'public_names': 0, 'pickle_scan': 0.1, 'outputs': 0.2, 'pickles': 0.2, 'weight_values': 0.2,
    'workers': 0.2, 'table_columns': 0.2, 'checkpoint_files': 0.2,
    'files': 0.5, 'checkpoints': 0.6, 'training_folder': 0.7, 'locks': 0.7,
    'geometry': 1, 'structures': 1.1,
    'ops': 2,
    'compat': 3, 'registry': 3.1,
    'simulation': 4, 'datasets': 4, 'evaluation': 4, 'models': 4, 'distill': 4, 'visualization': 4, 'export': 4,
    'formats': 5, 'engine': 5,
    'apis': 6,
    'benchmark': 7, 'experiment': 7.1,
    'cli': 8, '__main__': 8.1,
}  # fmt: skip

# Parts of models/ that the systems share; the systems, one folder each, do not import each other.
SHARED_MODELS = {'blocks', 'heads', 'inference'}
# A format may build on another one, without circles.
FORMATS_BUILT_ON: dict[str, set[str]] = {
    'nuscenes_lidarseg': {'nuscenes'}, 'llamas': {'culane'}, 'jrdb': {'kitti'},
}  # fmt: skip


# Files below the commands that import what a variable names: packages that are not part of this one, parts of a format.
IMPORT_BY_VARIABLE = {
    'compat/data_configs.py': 'the modules of mmengine with its registries',
    'compat/lidar_ops_on_cpu.py': 'the modules of mmdet3d that hold the ops',
    'public_names.py': 'the names that a package gives once they are asked for',
    'formats/__init__.py': 'profiles and writer of a format that simulates, once they are needed',
    'export/onnx_file.py': 'whether onnx, onnxscript and onnxruntime are installed',
}


def _imports(nodes):
    """Yields (line, dotted name) of all that a file imports from this package: lazily, at its top, or by a text."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f'line {node.lineno} imports relatively: write the whole name'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and re.fullmatch(r'perception3d(\.\w+)+', str(node.value)):
            names = [node.value]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.partition('.')[0] == 'perception3d')


def _part(name):
    """The part of a dotted name, and its system or format; the facade, `perception3d` alone, is a part too."""
    parts = name.split('.')
    if len(parts) == 1 or (parts[1] not in LAYERS and f'perception3d.{parts[1]}' not in MODULES):
        return '', ''
    has_members = parts[1] in ('models', 'formats') and '.'.join(parts[:3]) in MODULES
    return parts[1], parts[2] if has_members and len(parts) > 2 else ''


def _rises(importer, imported):
    (part, member), (other, other_member) = importer, imported
    if part != other:
        return other not in LAYERS or LAYERS[other] >= LAYERS[part]
    if not member or not other_member or member == other_member:
        return False
    if part == 'models':
        return other_member not in SHARED_MODELS
    return other_member not in FORMATS_BUILT_ON.get(member, ())


def _imports_from_above(name, nodes):
    """The imports of a module `name` that its layer does not allow; its version is a fact and no part."""
    allowed = 'perception3d.__version__'
    return [(line, other) for line, other in _imports(nodes) if other != allowed and _rises(_part(name), _part(other))]


def test_every_part_has_a_layer():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix('.py') for path in FILES} - {'__init__', '__pycache__'}
    assert parts == LAYERS.keys()


def test_nobody_imports_from_above():
    wrong = [
        f'{path.relative_to(PACKAGE)}:{line} imports {name}'
        for path in FILES
        if path != PACKAGE / '__init__.py'
        for line, name in _imports_from_above(module_name(path), nodes_of(path))
    ]
    assert not wrong, '\n'.join(wrong)


def _importing_calls(nodes):
    """Yields the calls that import, or look for, a module which no constant names."""
    for node in nodes:
        name = getattr(node.func, 'attr', getattr(node.func, 'id', '')) if isinstance(node, ast.Call) else ''
        is_import = name in ('import_module', '__import__', 'resolve_name')
        if (is_import or name == 'find_spec') and not (node.args and isinstance(node.args[0], ast.Constant)):
            yield node


def test_only_commands_import_by_a_variable():
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        for node in _importing_calls(nodes_of(path))
        if 'PathFinder' not in ast.unparse(node)
    }
    below = {name for name in found if LAYERS.get(name.split('/')[0].removesuffix('.py'), 9) < LAYERS['apis']}
    assert below == IMPORT_BY_VARIABLE.keys()


def test_formats_are_built_on_others_without_circles():
    names = {path.name for path in (PACKAGE / 'formats').iterdir() if path.is_dir()}
    left = dict(FORMATS_BUILT_ON)
    assert left.keys() <= names and all(bases and bases <= names for bases in left.values())
    while left:
        free = [name for name, bases in left.items() if not bases & left.keys()]
        assert free, f'{", ".join(left)} are built on each other'
        left = {name: bases for name, bases in left.items() if name not in free}
    used = {
        (_part(module_name(path))[1], _part(name)[1])
        for path in FILES
        for _, name in _imports(nodes_of(path))
        if _part(module_name(path))[0] == _part(name)[0] == 'formats'
    }
    assert {(name, base) for name, bases in FORMATS_BUILT_ON.items() for base in bases} <= used


@pytest.mark.parametrize(
    'module, line',
    [
        ('geometry.iou', 'from perception3d import Inferencer'),
        ('geometry.iou', 'import perception3d'),
        ('geometry.iou', "importlib.import_module('perception3d.apis.inferencer')"),
        ('datasets.paired', 'from perception3d.evaluation.average_precision import score'),
        ('models.fast_bev.detector', 'from perception3d.models import lidar_det'),
        ('models.fast_bev.detector', 'from perception3d.models.lidar_det.export import spec'),
        ('formats.kitti.dataset', 'from perception3d.formats.nuscenes.files import CLASSES'),
        ('formats.kitti.dataset', 'import perception3d.engine.runner'),
        ('apis.testing', 'def test():\n    from perception3d.benchmark import timing'),
    ],
)
def test_the_check_of_layers_can_fail(module, line):
    assert _imports_from_above(f'perception3d.{module}', list(ast.walk(ast.parse(line))))


@pytest.mark.parametrize(
    'module, line',
    [
        ('models.fast_bev.detector', 'from perception3d.models.blocks import camera'),
        ('formats.kitti.dataset', 'from perception3d.datasets.frame_dataset import FrameDataset'),
        ('formats.kitti.dataset', 'from perception3d.formats import Command'),
        ('formats.nuscenes_lidarseg.info', 'from perception3d.formats.nuscenes import info'),
        ('apis.testing', 'from perception3d.engine.runner import PerceptionRunner'),
        ('experiment.records', 'from perception3d import __version__'),
    ],
)
def test_what_lies_below_may_be_imported(module, line):
    assert not _imports_from_above(f'perception3d.{module}', list(ast.walk(ast.parse(line))))


def test_tools_call_the_package_and_explain_themselves():
    for tool in TOOLS:
        allowed = ('perception3d.apis.cli.', 'perception3d.cli.')
        assert all(name.startswith(allowed) for _, name in _imports(nodes_of(tool))), tool
        text = tool.read_text()
        assert 'run_tool' in text and ast.get_docstring(tree_of(tool)), tool


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
        for node in nodes_of(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno + 1 > 60:
                large.append(f'{path.name}:{node.lineno} {node.name}')
    assert not large, '\n'.join(large)


def _without_docstrings(tree, place):
    """Yields what is public in a module and has no docstring: itself, classes, functions, methods and properties."""
    if not ast.get_docstring(tree):
        yield place
    for node in tree.body:
        if isinstance(node, _DEFINITIONS) and not node.name.startswith('_'):
            name = f'{place}.{node.name}'
            if isinstance(node, ast.ClassDef):
                yield from _without_docstrings(node, name)
            elif not ast.get_docstring(node) and not _is_described(node, tree):
                yield name


def _is_described(node, owner):
    """Whether it is an overload, or an attribute of a Protocol that the docstring of its class describes."""
    is_protocol = any(ast.unparse(base) == 'Protocol' for base in getattr(owner, 'bases', ()))
    described = is_protocol and re.search(rf'^ *([\w, ]+, )?{node.name}\b.*: ', ast.get_docstring(owner), re.M)
    return bool(described) or any(ast.unparse(part) == 'overload' for part in node.decorator_list)


def test_public_names_have_docstrings():
    bare = [name for path in FILES for name in _without_docstrings(tree_of(path), module_name(path))]
    assert not bare, '\n'.join(bare)
    text = "'.'\nclass A:\n    '.'\n    def f(self): pass\n    def _g(self): pass\ndef h(): pass"
    assert list(_without_docstrings(ast.parse(text), 'm')) == ['m.A.f', 'm.h']


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
            for line, name in _imports(nodes_of(path)):
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
        for node in nodes_of(path)
        if _numbered(node) or (isinstance(node, ast.Attribute) and node.attr == 'insert')
    ]
    assert not wrong, '\n'.join(wrong)
    assert _numbered(ast.parse('val_dataloader.dataset.pipeline[-1]').body[0].value)
    assert _numbered(ast.parse('steps[2:4]').body[0].value) and not _numbered(ast.parse("steps['a']").body[0].value)


# Functions of 8 or more arguments. Constructors of registered classes are free: their arguments are keys of configs.
MANY_ARGUMENTS = {
    'ops/deform_conv.py modulated_deform_conv2d': 'those of the convolution of torchvision and mmcv',
    'visualization/visualizer.py add_datasample': 'those of the method of mmengine that it overrides',
}
# Functions of `compat`, which upstream packages call in place of their own.
UPSTREAM_ARGUMENTS = {
    'compat/mmcv_on_cpu.py _ball_query_forward', 'compat/mmcv_on_cpu.py _hard_voxelize_forward',
    'compat/mmcv_on_cpu.py _knn_forward', 'compat/mmcv_on_cpu.py _modulated_deform_conv_backward',
    'compat/mmcv_on_cpu.py _modulated_deform_conv_forward', 'compat/spconv_on_cpu.py get_indice_pairs',
}  # fmt: skip
# Kernels of numba, which take arrays one by one.
KERNEL_ARGUMENTS = {
    'geometry/lut.py _fill_overlaps', 'geometry/lut.py _fill_table', 'geometry/lut.py _pixel',
    'geometry/lut.py _see_slice', 'ops/neighbors.py _ball', 'ops/neighbors.py _ball_all', 'ops/neighbors.py _nearest',
    'ops/neighbors.py _nearest_all', 'ops/sparse_pairs.py _strided',
}  # fmt: skip


def _is_kernel(node):
    return any('njit' in ast.unparse(decorator) for decorator in node.decorator_list)


def test_few_functions_have_many_arguments():
    many, kernels = [], set()
    for path in FILES:
        constructors = {
            id(item)
            for node in nodes_of(path)
            if isinstance(node, ast.ClassDef) and any('register' in ast.unparse(part) for part in node.decorator_list)
            for item in node.body
            if getattr(item, 'name', '') == '__init__'
        }
        for node in nodes_of(path):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or id(node) in constructors:
                continue
            names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if len([name for name in names if name not in ('self', 'cls')]) >= 8:
                name = f'{path.relative_to(PACKAGE)} {node.name}'
                if _is_kernel(node):
                    kernels.add(name)
                else:
                    many.append(name)
    assert len(MANY_ARGUMENTS) <= 5 and sorted(many) == sorted({*MANY_ARGUMENTS, *UPSTREAM_ARGUMENTS})
    assert all(name.startswith('compat/') for name in UPSTREAM_ARGUMENTS)
    assert kernels == KERNEL_ARGUMENTS


# Functions and classes that nothing but tests uses yet.
FOR_LATER = {
    'boxes_of': 'text files of JRDB, by its metric',
    'box_iou': 'IoU of volumes, by which JRDB matches boxes',
}


def _home(name, seen=()):
    """The module and the name that a dotted name stands for, through the `__init__` files that pass it on."""
    module, _, last = name.rpartition('.')
    path = MODULES.get(module)
    for node in tree_of(path).body if path is not None and path.name == '__init__.py' and name not in seen else ():
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == last:
                    return _home(f'{node.module}.{alias.name}', (*seen, name))
    return name


def _users(path):
    """Yields the dotted names of this package that a file uses: what it imports and what it has itself, by name."""
    module, modules, passed_on = module_name(path), {}, {}
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name, known_as = f'{node.module}.{alias.name}', alias.asname or alias.name
                if name in MODULES:
                    modules[known_as] = name
                elif path.name == '__init__.py':
                    # To pass a name on is not to use it.
                    passed_on[known_as] = _home(name)
                else:
                    yield _home(name)
        elif isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
    for node in nodes_of(path):
        if isinstance(node, ast.Name):
            yield passed_on.get(node.id, f'{module}.{node.id}')
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner in modules:
                yield _home(f'{modules[owner]}.{node.attr}')
        elif isinstance(node, ast.Dict):
            # The tables of lazily imported names: name -> module.
            for key, value in zip(node.keys, node.values):
                if isinstance(key, ast.Constant) and getattr(value, 'value', None) in MODULES:
                    yield f'{value.value}.{key.value}'


def test_every_function_and_class_has_a_user():
    count = Counter(name for path in (*FILES, *TOOLS, *CONFIGS) for name in _users(path))
    unused = []
    for path in FILES:
        for node in tree_of(path).body:
            if not isinstance(node, _DEFINITIONS) or node.name.startswith('_'):
                continue
            # Configs of users name what is registered; a function that calls itself has no user yet.
            registered = any('register' in ast.unparse(decorator) for decorator in node.decorator_list)
            own = sum(getattr(part, 'id', '') == node.name for part in ast.walk(node))
            if not registered and count[f'{module_name(path)}.{node.name}'] <= own:
                unused.append(node.name)
    assert sorted(unused) == sorted(FOR_LATER), 'move it into tests, give it a user, or list it with the reason'


def test_names_of_configs_begin_with_their_folder_and_leaves_are_short():
    leaves = [path for path in (ROOT / 'configs').glob('*/*.py') if path.parent.name not in ('_base_', 'experiments')]
    wrong = [f'{path.parent.name}/{path.name}' for path in leaves if not path.name.startswith(path.parent.name)]
    # A bare 4x reads as a schedule: c4 is a compression.
    wrong += [path.name for path in leaves if re.search(r'(?<![0-9])(2|4|8|16)x_', path.name)]
    wrong += [f'{path.name}: more than 60 lines' for path in leaves if path.read_text().count('\n') > 60]
    assert leaves and not wrong, '\n'.join(wrong)
