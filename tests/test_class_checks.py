"""The layers above the parts ask a model, data set or metric for a method or an attribute, and know no class."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from source_files import FILES, PACKAGE, module_name, nodes_of, tree_of

WITHOUT_CLASSES = ('apis', 'engine', 'experiment', 'benchmark', 'visualization')
# Packages whose classes are such models, data sets and metrics.
_CONCRETE = re.compile(r'perception3d\.(models|datasets|formats|visualization|distill|evaluation|simulation)\b')
_UPSTREAM = re.compile(r'(mmdet3d|mmdet)\.(models|datasets|evaluation)\b')

# Classes that these layers use as tools: nothing else can stand in their place.
TOOLS = {
    'Command': 'of the contract of formats',
    'Format': 'of the contract of formats',
    'Job': 'of the contract of writers',
    'Request': 'of the contract of writers',
    'Writer': 'of the contract of writers',
    'Column': 'settings of a picture',
    'ReportFrame': 'a frame of the one report',
    'PictureStyle': 'settings of a picture',
    'MultiViewVisualizer': 'the one visualizer',
    'TapSet': 'reads the output of any submodule by its name',
}
# What is asked of a part by a text: the methods and attributes of docs/architecture.md, and mmengine's own.
ASKED = {
    # Data sets and their steps.
    'metainfo', 'read_points', 'read_annotations', 'get_ann_info', 'pipeline', 'transforms', 'num_frames', 'offsets_s',
    'own_entries', 'results_named_as_annotations', 'data_root', 'full_init', 'disabled', 'image_mismatch', '__dict__',
    # Models.
    'stream', 'convert_weights', 'training_state', 'load_training_state', 'teachers', 'teacher_metas',
    'student', 'module', 'draw_varied_weights', 'upstream_class', 'expected_by_links', 'whole_step',
    'more_than_a_cloud', 'decoder',
    # Metrics, hooks, loops, samplers, schedules and visualizers.
    'metrics', 'evaluator', 'check_classes', 'format_dir', 'jsonfile_prefix', 'hooks', 'work_dir', 'out_dir',
    'ema_model', 'replaced_checkpoints', 'dataloader', 'dataloader_iterator', 'start_at', 'samples_after', 'begin_at',
    'place', 'batch_size', 'need_val_args', 'draws_data_samples', 'BENCHMARKS',
    # Arrays, tensors and Python.
    'shape', 'ndim', 'permute', 'sched_getaffinity',
}  # fmt: skip
# Files that compare the settings of one system, or name an attribute by a variable.
PROBING = {
    'apis/__init__.py': 'passes names on lazily',
    'apis/formats.py': 'the command of a format, by its name',
    'benchmark/timing.py': 'times a method by its name',
    'engine/reproducible.py': 'hands all else on to the data set that it wraps',
    'engine/resuming.py': 'compares the fields of two places',
    'engine/sync_norm.py': 'replaces submodules by their names',
}
# Names of classes as values.
NAMED = {
    'engine/runner.py upstream.__name__': 'configs name hooks of mmengine so',
}


def concrete_classes() -> dict[str, str]:
    """Name -> module of our own concrete classes, without the tools."""
    return {
        node.name: module_name(path)
        for path in FILES
        if _CONCRETE.match(module_name(path))
        for node in tree_of(path).body
        if isinstance(node, ast.ClassDef) and node.name not in TOOLS
    }


def _is_own(where: str, module: str) -> bool:
    """Whether a class of `module` belongs to the file `where`: of its part, or of the system that it measures."""
    part, _, rest = where.partition('/')
    system = rest.removesuffix('.py')
    return module.startswith(f'perception3d.{part}.') or (
        part == 'benchmark' and module.startswith(f'perception3d.models.{system}.')
    )


def _others(nodes: list[ast.AST]) -> set[str]:
    """Classes of a file itself, and those imported from where no concrete classes are: they may share a name."""
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and not _CONCRETE.match(str(node.module))]
    return {alias.name for node in imports for alias in node.names if alias.name[:1].isupper()} | {
        node.name for node in nodes if isinstance(node, ast.ClassDef)
    }


def faults(where: str, nodes: list[ast.AST], own: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yields (line, text) of each place of the file `where` that knows, or asks for, a concrete class.

    That is: an import from upstream's models, data sets and metrics; one of our own concrete classes, as a name, an
    attribute or a text, wherever it stands; the name of a class outside of a message; an attribute that is probed.
    """
    foreign = {name for name, module in own.items() if not _is_own(where, module)} - _others(nodes)
    messages = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in nodes:
        wrong = False
        if isinstance(node, ast.ImportFrom):
            wrong = any(_UPSTREAM.match(f'{node.module}.{alias.name}') or alias.name in foreign for alias in node.names)
        elif isinstance(node, ast.Import):
            wrong = any(_UPSTREAM.match(alias.name) for alias in node.names)
        elif isinstance(node, ast.Name):
            wrong = node.id in foreign
        elif isinstance(node, ast.Constant):
            wrong = isinstance(node.value, str) and node.value.rpartition('.')[2] in foreign
        elif isinstance(node, ast.Attribute):
            wrong = node.attr in foreign or (
                node.attr in ('__name__', '__qualname__')
                and id(node) not in messages
                and f'{where} {ast.unparse(node)}' not in NAMED
            )
        elif isinstance(node, ast.Call) and getattr(node.func, 'id', '') in ('hasattr', 'getattr', 'setattr'):
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
            wrong = name not in ASKED and where not in PROBING
        if wrong:
            yield node.lineno, ast.unparse(node)


def _files() -> Iterator[tuple[str, list[ast.AST]]]:
    for part in WITHOUT_CLASSES:
        for path in sorted((PACKAGE / part).rglob('*.py')):
            yield path.relative_to(PACKAGE).as_posix(), nodes_of(path)


def test_no_class_checks_above_the_parts():
    own = concrete_classes()
    wrong = [f'{where}:{line} {text}' for where, nodes in _files() for line, text in faults(where, nodes, own)]
    assert not wrong, 'give the class a method or attribute for what differs:\n' + '\n'.join(wrong)


def test_the_lists_hold_nothing_that_is_gone():
    names, texts, files = set(), set(), {}
    for where, nodes in _files():
        files[where] = nodes
        names |= {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in ('hasattr', 'getattr', 'setattr'):
                texts.add(getattr(node.args[1], 'value', None))
    assert TOOLS.keys() <= names and texts >= ASKED and files.keys() >= PROBING.keys()
    for named in NAMED:
        where, _, text = named.partition(' ')
        assert any(isinstance(node, ast.Attribute) and ast.unparse(node) == text for node in files[where])


@pytest.mark.parametrize(
    'line',
    [
        'from perception3d.models.fast_bev.detector import FastBEV',
        'from perception3d.models.fast_bev import detector\nisinstance(model, (nn.Module, detector.FastBEV))',
        'import mmdet3d.models',
        'from mmdet3d.models import CenterPoint',
        'own = (FastBEV,)\nisinstance(model, own)',
        "isinstance(model, MODELS.get('FastBEV'))",
        "config['type'] == 'mmdet3d.FastBEV'",
        '_BY_CLASS[type(model).__name__]',
        'type(model).__name__ == name',
        "type(model).__qualname__.startswith('Fast')",
        'model.__class__ in (FastBEV, 1)',
        'match model:\n    case FastBEV(): pass',
        "hasattr(model, 'view_transforms')",
        "getattr(model, 'voxel_layer', None)",
        'getattr(model, name)',
    ],
)
def test_the_check_can_fail(line):
    own = {'FastBEV': 'perception3d.models.fast_bev.detector'}
    assert list(faults('apis/testing.py', list(ast.walk(ast.parse(line))), own))
    if 'FastBEV' in line and 'mmdet3d' not in line:
        assert 'FastBEV' in concrete_classes()


@pytest.mark.parametrize(
    'line',
    [
        'isinstance(model, nn.Module)',
        'type(seed) is int',
        "InputError(f'{type(model).__name__} has no method')",
        "hasattr(model, 'stream')",
    ],
)
def test_what_layers_may_ask(line):
    assert not list(faults('apis/testing.py', list(ast.walk(ast.parse(line))), concrete_classes()))
