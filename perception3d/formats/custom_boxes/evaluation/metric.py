"""AP in the LiDAR frame for mmengine's test loop: for data that has points and boxes, and no camera."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.formats.custom_boxes.evaluation.ap import LidarBoxes, lidar_scores
from perception3d.formats.custom_boxes.evaluation.table import class_thresholds, flatten, require_ranges, table
from perception3d.formats.custom_boxes.files import write_labels
from perception3d.outputs import check_outputs, require_name
from perception3d.registry import METRICS

_Frame = tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, list[str]]


@METRICS.register_module()
class LidarDetectionMetric(BaseMetric):
    """AP by IoU in the bird's-eye view and in space, and by distance of centres, of any boxes in the LiDAR frame.

    Every sample must pack `frame_id` and `eval_ann_info`, a dict with `gt_bboxes_3d` (LiDARInstance3DBoxes) and
    `gt_labels_3d`; objects with a label below 0 are left out. `left_out` there may name objects of other classes.
    How AP is computed: see `lidar_ap`.

    Scores, in percent: `bev/<class>`, `3d/<class>`, `distance/<class>` (mean over 0.5, 1, 2, 4 m) and
    `distance@<d>m/<class>`; `<measure>/mAP` is the mean over the classes that have objects, the others have no key.
    With `range_bins_m`, also `<measure>/<low>-<high>m/<class>`.

    Args:
        iou_thresholds: IoU that a match must exceed, for all classes or by class name.
        range_bins_m: ranges (low, high) in metres to score on their own; a high of None has no end.
        result_dir: Result files are written there, `<frame_id>.txt`, an empty one for a frame without detections;
            `tools/evaluate.py custom-boxes` reads them. Nowhere if None.
        collect_device, prefix: As of mmengine's BaseMetric.
    """

    default_prefix = 'lidar'

    def __init__(
        self,
        iou_thresholds: float | Mapping[str, float] = 0.5,
        range_bins_m: Sequence[tuple[float, float | None]] = (),
        result_dir: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_outputs(folders=[result_dir])
        self.iou_thresholds = iou_thresholds
        self.range_bins_m = require_ranges(range_bins_m)
        self.result_dir = result_dir

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises InputError if the thresholds name a class that is not among `classes`, or lack one."""
        class_thresholds(self.iou_thresholds, classes)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps boxes, scores and labels of a batch, and the objects that come with it."""
        class_thresholds(self.iou_thresholds, self.dataset_meta['classes'])
        for sample in data_samples:
            lacking = [key for key in ('frame_id', 'eval_ann_info') if key not in sample]
            if lacking:
                raise InputError(f'predictions carry no {", ".join(lacking)}: pack them as metas (meta_keys)')
            predicted, truth = sample['pred_instances_3d'], sample['eval_ann_info']
            if truth is None:
                raise InputError(
                    f'frame {sample["frame_id"]} has no labels, so it cannot be scored: test on another split, or '
                    'write its boxes with tools/infer.py'
                )
            for boxes in (predicted['bboxes_3d'], truth['gt_bboxes_3d']):
                if not isinstance(boxes, LiDARInstance3DBoxes):
                    kind = type(boxes).__name__
                    raise InputError(f'frame {sample["frame_id"]} has {kind}, expected LiDARInstance3DBoxes')
            boxes = predicted['bboxes_3d'].tensor.detach().cpu().double().numpy()[:, :7]
            scores = predicted['scores_3d'].detach().cpu().double().numpy()
            finite = np.isfinite(boxes).all(1) & np.isfinite(scores)
            self.results.append(
                (
                    require_name(str(sample['frame_id']), 'frame_id'),
                    truth['gt_bboxes_3d'].tensor.detach().cpu().double().numpy()[:, :7],
                    np.asarray(truth['gt_labels_3d'], np.int64).reshape(-1),
                    boxes[finite],
                    predicted['labels_3d'].detach().cpu().numpy().astype(np.int64)[finite],
                    scores[finite],
                    int((~finite).sum()),
                    list(truth.get('left_out', ())),
                )
            )

    def compute_metrics(self, results: list[_Frame]) -> dict[str, float]:
        """Returns the keys that the class describes."""
        frames = [result[0] for result in results]
        if len(set(frames)) < len(frames):
            twice = sorted({frame for frame in frames if frames.count(frame) > 1})
            raise InputError(f'frame {", ".join(twice[:3])} was predicted more than once: frame ids must be unique')
        classes = list(self.dataset_meta['classes'])
        _, truth, truth_labels, boxes, labels, scores, not_finite, left_out = zip(*results, strict=True)
        if sum(not_finite):
            text = f'{sum(not_finite)} predictions with NaN or infinity were left out'
            print_log(text, 'current', logging.WARNING)
        if self.result_dir is not None:
            for frame, found, kinds, sure in zip(frames, boxes, labels, scores, strict=True):
                names = [classes[kind] for kind in kinds]
                write_labels(Path(self.result_dir) / f'{frame}.txt', found, names, sure)
            print_log(f'results of {len(frames)} frames written to {self.result_dir}', logger='current')
        every = lidar_scores(
            LidarBoxes(np.concatenate(truth), np.concatenate(truth_labels), np.cumsum([0, *map(len, truth)])),
            LidarBoxes(
                np.concatenate(boxes), np.concatenate(labels), np.cumsum([0, *map(len, boxes)]), np.concatenate(scores)
            ),
            class_thresholds(self.iou_thresholds, classes),
            self.range_bins_m,
        )
        lines = [f'{len(frames)} frames', table(classes, self.range_bins_m, every)]
        lines += [f'note: {note}' for note in _notes(classes, every[0].objects, left_out)]
        print_log('\n'.join(lines), logger='current')
        return flatten(classes, self.range_bins_m, every)


def _notes(classes: Sequence[str], objects: np.ndarray, left_out: Sequence[list[str]]) -> list[str]:
    """Says which objects are not scored, and which classes have none."""
    others = Counter(name for names in left_out for name in names)
    empty = [name for name, count in zip(classes, objects, strict=True) if not count]
    notes = []
    if others:
        listed = ', '.join(f'{name} {count}' for name, count in sorted(others.items()))
        notes.append(f'{others.total()} objects of other classes are left out: {listed}')
    if empty:
        notes.append(f'no objects, so no AP: {", ".join(empty)}')
    return notes
