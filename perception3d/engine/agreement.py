"""Compares model, data sets and metrics before a run begins: classes, frames, ranges, order of anchors."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from scipy.optimize import linear_sum_assignment

from perception3d.checks import InputError, shown
from perception3d.compat.private_members import is_loaded
from perception3d.datasets.pipeline_steps import check_class_lists, filter_ranges
from perception3d.engine.data_kept import check_data_is_kept, outputs_of
from perception3d.engine.wrappers import base_datasets, unwrapped

# Imported for its registrations: what models of mmdet3d expect and respond, also in configs that use nothing of ours.
from perception3d.models import lidar_det  # noqa: F401
from perception3d.structures.expected_data import ExpectedData, expected_data

# Frames whose boxes are compared with the anchors, boxes that a class needs for it, and by how much (in logs of sizes,
# summed) another order of the anchors must fit better: more than a factor of two.
_FRAMES, _BOXES, _BETTER = 200, 5, 0.8


@HOOKS.register_module()
class AgreementHook(Hook):
    """Compares model, data sets and metrics once they are built, before the first step; our runner always has it."""

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Raises InputError where two of them disagree."""
        check_runner(runner)

    def before_train(self, runner: Runner) -> None:
        """Raises InputError where a teacher, which is built by now, was trained on reordered classes."""
        check_teacher(runner.model, runner.train_loop.dataloader.dataset)


def check_runner(runner: Runner) -> None:
    """Compares the model, the data sets and the metrics of the built loops of a PerceptionRunner.

    Raises:
        InputError: two of them disagree, and names both; or an output lies in a folder that a data set reads.
    """
    loops = runner.built_loops
    datasets = {name: loop.dataloader.dataset for name, loop in loops.items()}
    for name, dataset in datasets.items():
        check_model_and_data(runner.model, dataset, f'{name}_dataloader')
    metrics = [metric for loop in loops.values() for metric in getattr(getattr(loop, 'evaluator', None), 'metrics', ())]
    parts = [part for dataset in datasets.values() for part in base_datasets(dataset)]
    check_data_is_kept(outputs_of(runner, metrics), parts)
    classes = {name: classes_of(dataset) for name, dataset in datasets.items()}
    if classes.get('train') and classes.get('val') and classes['train'] != classes['val']:
        raise InputError(
            f'train_dataloader has the classes {", ".join(classes["train"])}, but val_dataloader '
            f'{", ".join(classes["val"])}: both must be the same'
        )
    for name, loop in loops.items():
        for metric in getattr(getattr(loop, 'evaluator', None), 'metrics', ()):
            if hasattr(metric, 'check_classes') and classes.get(name):
                metric.check_classes(classes[name])
    if 'train' in datasets:
        _check_links(runner.model, classes['train'])
        _check_anchor_order(runner.model, datasets['train'])


def check_model_and_data(model: Any, dataset: Any, place: str) -> None:
    """Compares the classes, frames and range of a model with those of a data set.

    Args:
        model: a detector, or a wrapper of one.
        dataset: a data set, or a wrapper of some.
        place: name of the data set in the config, such as 'train_dataloader'.

    Raises:
        InputError: they disagree; names both.
    """
    inner = _detector(model)
    expected, classes = expected_data(inner), classes_of(dataset)
    if classes:
        _check_classes(expected, classes, place)
    for part in base_datasets(dataset):
        if classes_of(part):
            check_class_lists(f'the data set of {place}', getattr(part, 'pipeline', ()), classes_of(part))
        # A distiller's data set loads what the student and its teacher need.
        if inner is unwrapped(model):
            _check_frames(expected, part, place)
    _check_ranges(expected, dataset, place)


def check_trained_classes(
    meta: Mapping[str, Any],
    metainfo: Mapping[str, Any],
    checkpoint: Any,
    fix: str = 'set metainfo=dict(classes=...) of the data set to those of the checkpoint',
) -> None:
    """Compares the classes that a checkpoint was trained for with those of the data set.

    Args:
        meta: `meta` of the checkpoint, in which mmengine keeps the metainfo of its data set.
        metainfo: that of the data set.
        checkpoint: its name, for the error.
        fix: what to do about it, for the error.

    Raises:
        InputError: they differ: a class would be called by the name of another one.
    """
    trained, classes = _trained_classes(meta), tuple(map(str, metainfo.get('classes') or ()))
    if trained and classes and trained != classes:
        raise InputError(
            f'{checkpoint} was trained for the classes {", ".join(trained)}, but the data set has '
            f'{", ".join(classes)}: {fix}'
        )


def _trained_classes(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the classes that a checkpoint with this `meta` was trained for; empty where none are stored."""
    metainfo = meta.get('dataset_meta') or {}
    # mmengine wrote them in capitals once.
    return tuple(map(str, metainfo.get('classes') or metainfo.get('CLASSES') or ()))


def check_teacher(model: Any, dataset: Any) -> None:
    """Compares the classes of a distiller's teachers, of their heads and checkpoints, with those of the data set.

    Other classes give a warning in the log: links of feature maps do not need classes in common.

    Raises:
        InputError: its checkpoint was trained for the same classes in another order.
    """
    model, classes = unwrapped(model), classes_of(dataset)
    if not classes:
        return
    metas = getattr(model, 'teacher_metas', {})
    for key, teacher in getattr(model, 'teachers', {}).items():
        name = f'the teacher {key!r}' if key else 'the teacher'
        differ = check_order_of_classes(metas[key], classes, name)
        try:
            _check_classes(expected_data(teacher), classes, 'train_dataloader')
        except InputError as error:
            if not differ:
                print_log(f'{name}: {error}; right only if no link reads its head', 'current', logging.WARNING)


def check_order_of_classes(meta: Mapping[str, Any], classes: Sequence[str], name: str) -> bool:
    """Compares the classes that weights were trained for with those of a training that begins with them.

    Args:
        meta: `meta` of their checkpoint.
        classes: those of the data set.
        name: of the weights, for the error.

    Returns:
        Whether the classes differ. If so, a warning is in the log.

    Raises:
        InputError: they are the same in another order.
    """
    trained = _trained_classes(meta)
    if not trained or not classes or trained == tuple(classes):
        return False
    text = f'{name} was trained for the classes {", ".join(trained)}, but the data set has {", ".join(classes)}'
    if sorted(trained) == sorted(classes):
        raise InputError(f'{text}: set metainfo=dict(classes=...) of the data sets to the order of the checkpoint')
    print_log(f'{text}: what its head has learned is for other classes', 'current', logging.WARNING)
    return True


def classes_of(dataset: Any) -> tuple[str, ...]:
    """Returns the class names of a data set; empty where it has none."""
    metainfo = getattr(dataset, 'metainfo', None) or {}
    return tuple(map(str, metainfo.get('classes') or ()))


def _detector(model: Any) -> Any:
    model = unwrapped(model)
    return getattr(model, 'student', model)


def _check_classes(expected: ExpectedData, classes: Sequence[str], place: str) -> None:
    names, count = expected.class_names, expected.num_classes
    if names is not None and list(names.value) != list(classes):
        raise InputError(
            f'{names.place} name the classes {", ".join(names.value)}, but the data set of {place} has '
            f'{", ".join(classes)}: both must be the same, in the same order'
        )
    if count is not None and count.value != len(classes):
        raise InputError(
            f'{count.place} is {count.value}, but the data set of {place} has {len(classes)} classes '
            f'({", ".join(classes)}): set num_classes, or metainfo=dict(classes=...) of the data sets'
        )
    for entries, number in expected.entries_per_class.items():
        if number != len(classes):
            raise InputError(
                f'{entries} has {number} entries, but the data set of {place} has '
                f'{len(classes)} classes ({", ".join(classes)}): each class needs one'
            )


def _check_links(model: Any, classes: Sequence[str]) -> None:
    """Compares the classes that the losses of a distiller's links name with those of the data set."""
    by_links = getattr(unwrapped(model), 'expected_by_links', None)
    for name, expected in (by_links() if by_links and classes else {}).items():
        try:
            _check_classes(expected, classes, 'train_dataloader')
        except InputError as error:
            raise InputError(f'link {name!r}: {error}') from error


def _check_frames(expected: ExpectedData, dataset: Any, place: str) -> None:
    wanted = expected.num_frames
    if wanted is None:
        return
    loaded, offsets_s = getattr(dataset, 'num_frames', None), getattr(dataset, 'offsets_s', None)
    if offsets_s is not None:
        loaded = 1 + len(offsets_s)
    elif loaded is None and is_loaded(dataset):
        loaded = dataset.get_data_info(0).get('num_frames')
    if loaded is not None and loaded != wanted.value:
        raise InputError(
            f'the data set of {place} loads {loaded} frames (num_frames), but the model takes {wanted.value} '
            f'({wanted.place}): both must be the same'
        )


def _check_ranges(expected: ExpectedData, dataset: Any, place: str) -> None:
    """Compares the ranges of each view of a LiDAR pipeline with each other and with that of the model.

    Points are kept in the range of the model; objects in it, or in a part of it.
    """
    if not expected.takes_points:
        return
    stated = None if expected.range_m is None else (expected.range_m.place, expected.range_m.value)
    for part in base_datasets(dataset):
        for number, filters in enumerate(filter_ranges(getattr(part, 'pipeline', ()))):
            # The first view is the student's, the model that is trained.
            whole = stated if number == 0 else None
            for kept in sorted(filters, key=lambda kept: not kept.of_points):
                if whole is None:
                    # It is that of the filter of points.
                    whole = (f'{kept.step} of {place}', kept.range_m) if kept.of_points else None
                elif not _fits(kept.range_m, whole[1], kept.of_points):
                    wanted = 'both must be the same' if kept.of_points else 'the former must lie in the latter'
                    raise InputError(
                        f'{kept.step} of {place} keeps the range {shown(kept.range_m)}, but {whole[0]} has '
                        f'{shown(whole[1])}: {wanted} in x and y'
                    )


def _fits(span: Sequence[float], whole: Sequence[float], is_same: bool) -> bool:
    """Whether `span` is `whole` in x and y, or lies in it."""
    beyond = np.array([*whole[:2], *span[3:5]]) - np.array([*span[:2], *whole[3:5]])
    return bool((np.abs(beyond) < 1e-3).all() if is_same else (beyond < 1e-3).all())


def _check_anchor_order(model: Any, dataset: Any) -> None:
    """Compares the sizes of anchors, one a class in the order of the labels, with those of the classes' boxes.

    Raises:
        InputError: another order of the same anchors fits the boxes far better: the classes were reordered.
    """
    stated, classes = expected_data(_detector(model)).anchor_sizes, classes_of(dataset)
    if stated is None or len(stated.value) != len(classes):
        return
    anchors = stated.value
    sizes = [np.zeros((0, 3)) for _ in classes]
    for part in base_datasets(dataset):
        for index in range(min(len(part), _FRAMES)) if hasattr(part, 'get_ann_info') else ():
            info = part.get_ann_info(index)
            boxes = info['gt_bboxes_3d'].tensor.numpy()[:, 3:6]
            labels = np.asarray(info['gt_labels_3d'])
            sizes = [np.concatenate([own, boxes[labels == k]]) for k, own in enumerate(sizes)]
    known = [k for k, own in enumerate(sizes) if len(own) >= _BOXES]
    if len(known) < 2:
        return
    usual = np.log(np.maximum([np.median(sizes[k], 0) for k in known], 1e-3))
    cost = np.abs(usual[:, None] - np.log(np.array(anchors, float))[known]).sum(-1)
    _, best = linear_sum_assignment(cost)
    if np.trace(cost) - cost[np.arange(len(known)), best].sum() > _BETTER:
        k = next(k for k in range(len(known)) if best[k] != k)
        own, other = known[k], known[best[k]]
        raise InputError(
            f'{stated.place}[{own}] {shown(anchors[own])} is for {classes[own]}, whose boxes are '
            f'{shown(np.exp(usual[k]).round(2))}, as sizes[{other}]: sizes, ranges and assigners must be in the order '
            f'of the classes, {", ".join(classes)}'
        )
