"""Which structures a sample carries: as truth, and as prediction.

Samples are mmdet3d's Det3DDataSample. A structure is one of its fields, `gt_lanes`, `pred_point_labels` and so on: any
field with the prefix `gt_` or `pred_` whose value can be drawn. mmdet3d's own fields are read as well:
`gt_instances_3d`, `pred_instances_3d` and `eval_ann_info` as boxes, `gt_pts_seg` and `pred_pts_seg` as point labels;
and so are fields with a `lane_mask`, of the truth in the pixels of the network's image, of a prediction in those of the
image on disk, and fields with a `steering_rad`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.geometry.augmentation import aug_from_lidar, move_boxes
from perception3d.geometry.iou import to_numpy
from perception3d.structures.base import Structure
from perception3d.structures.boxes import IGNORED, Boxes
from perception3d.structures.pixel_labels import PixelLabels
from perception3d.structures.point_labels import PointLabels
from perception3d.structures.steering import SteeringAngle


@dataclass(frozen=True)
class SampleStructures:
    """What a sample carries.

    Attributes:
        ground_truth: annotated structures; None where nothing is annotated. An empty structure is an annotation too.
        predictions: predicted structures; None where nothing was predicted.
    """

    ground_truth: tuple[Structure, ...] | None = None
    predictions: tuple[Structure, ...] | None = None


def structures_of(sample: Any) -> SampleStructures:
    """Returns the structures that a sample carries.

    Args:
        sample: mmdet3d's Det3DDataSample, or the mapping of a data set (`ann_info`, `eval_ann_info`).

    Raises:
        InputError: boxes are not in the LiDAR frame, arrays do not fit each other, or a field can be drawn but is not
            derived from `structures.base.Structure`.
    """
    truth, predictions = ground_truth_boxes(sample), boxes_of(sample.get('pred_instances_3d'))
    return SampleStructures(
        _with_fields(sample, 'gt_', _with_ignored(sample, truth)),
        _with_fields(sample, 'pred_', [] if predictions is None else [predictions]),
    )


def boxes_of(instances: Any) -> Boxes | None:
    """Returns the boxes of mmengine instance data (`bboxes_3d`, `labels_3d`, optionally `scores_3d`), or None.

    Raises:
        InputError: the boxes are not in the LiDAR frame.
    """
    if instances is None or 'bboxes_3d' not in instances:
        return None
    return read_boxes(instances.bboxes_3d, instances.labels_3d, instances.get('scores_3d'))


def read_boxes(bboxes_3d: Any, labels: Any, scores: Any = None) -> Boxes:
    """Returns boxes of mmdet3d (LiDARInstance3DBoxes) or an array (N, 7 or 9), with their labels.

    Raises:
        InputError: the boxes are not in the LiDAR frame.
    """
    # mmdet3d's boxes have no attribute for their frame.
    frame = type(bboxes_3d).__name__
    if frame.startswith(('Camera', 'Depth')):
        raise InputError(f'{frame} cannot be drawn: convert the boxes to the LiDAR frame first')
    array = to_numpy(getattr(bboxes_3d, 'tensor', bboxes_3d))
    return Boxes(array, to_numpy(labels), None if scores is None else to_numpy(scores))


def ground_truth_boxes(sample: Any) -> Boxes | None:
    """Returns the annotated boxes: those that training uses, else those kept for evaluation, else None.

    Those kept for evaluation are moved as mmdet3d's augmentation moved the cloud, so that they fit the predictions.
    """
    boxes = boxes_of(sample.get('gt_instances_3d'))
    annotations = _annotations(sample)
    if boxes is None and 'gt_bboxes_3d' in annotations:
        boxes = _moved(sample, read_boxes(annotations['gt_bboxes_3d'], annotations['gt_labels_3d']))
    return boxes


def _annotations(sample: Any) -> Mapping[str, Any]:
    return sample.get('ann_info') or sample.get('eval_ann_info') or {}


def _moved(sample: Any, boxes: Boxes) -> Boxes:
    """Returns boxes as stored as mmdet3d's augmentation moved the cloud of a sample."""
    metas = getattr(sample, 'metainfo', sample)
    if not metas.get('transformation_3d_flow'):
        return boxes
    return Boxes(move_boxes(boxes.boxes, aug_from_lidar(metas)), boxes.labels, boxes.scores)


def _with_ignored(sample: Any, truth: Boxes | None) -> list[Structure]:
    """Returns the annotated boxes, and those that are neither to be found nor background as a structure of their own.

    They have the label -1 in training, and are `ignored_bboxes_3d` (M, 7 or 9) of annotations as stored.
    """
    if truth is None:
        return []
    stored = _annotations(sample).get('ignored_bboxes_3d')
    kept, ignored = truth.select(truth.labels != -1), truth.select(truth.labels == -1)
    if not len(ignored) and stored is not None and len(stored):
        ignored = _moved(sample, read_boxes(stored, np.zeros(len(stored), np.int64)))
    if not len(ignored):
        return [truth]
    return [kept, replace(ignored, labels=np.zeros(len(ignored), np.int64), classes=(IGNORED,))]


def resolve(
    structures: Sequence[Structure] | None, classes: Sequence[str], score: float | None = None
) -> tuple[Structure, ...] | None:
    """Returns structures with class names where they have none, and without items scoring below `score`."""
    if structures is None:
        return None
    named = tuple(structure.with_classes(classes) for structure in structures)
    return named if score is None else tuple(structure.above(score) for structure in named)


def _with_fields(sample: Any, prefix: str, structures: list[Structure]) -> tuple[Structure, ...] | None:
    for name, value in sample.items():
        if not str(name).startswith(prefix):
            continue
        if _is_structure(str(name), value):
            structures.append(value)
        elif not isinstance(value, Mapping) and 'pts_semantic_mask' in _keys(value):
            instances = value.get('pts_instance_mask')
            labels = PointLabels(
                to_numpy(value.pts_semantic_mask).astype(np.int64),
                None if instances is None else to_numpy(instances).astype(np.int64),
            )
            structures.append(labels)
        elif not isinstance(value, Mapping) and 'lane_mask' in _keys(value):
            placed = _stored_from_img(sample) if prefix == 'gt_' else None
            # A tint lies under the lines.
            structures.insert(0, PixelLabels.of_lane_mask(to_numpy(value.lane_mask), placed))
        elif not isinstance(value, Mapping) and 'steering_rad' in _keys(value):
            structures.append(SteeringAngle(to_numpy(value.steering_rad).item()))
    return tuple(structures) or None


def _is_structure(name: str, value: Any) -> bool:
    if isinstance(value, Structure):
        return True
    if any(callable(getattr(value, method, None)) for method in ('in_camera', 'in_bev', 'in_3d')):
        raise InputError(
            f'{name} is a {type(value).__name__}, which is not drawn: derive it from '
            'perception3d.structures.base.Structure'
        )
    return False


def _stored_from_img(sample: Any) -> Any:
    """The matrix (3, 3) from the pixels of the network's image to those on disk; None where the sample has none."""
    moved = getattr(sample, 'metainfo', sample).get('img_from_stored')
    return None if moved is None else np.linalg.inv(to_numpy(moved).astype(np.float64)[0, :3, :3])


def _keys(value: Any) -> Sequence[str]:
    """Field names of mmengine's data elements; nothing of other values."""
    return list(value.keys()) if hasattr(value, 'keys') else []
