"""AP in the LiDAR frame for mmengine's test loop: for data that has points and boxes, and no camera."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.evaluation.notes import describe_other_classes
from perception3d.evaluation.predictions import FiniteBoxes, finite_boxes, lidar_boxes
from perception3d.evaluation.submissions import SubmissionMetric, folder_by_any_name, require_unique
from perception3d.formats.custom_boxes.evaluation.ap import LidarBoxes, lidar_scores
from perception3d.formats.custom_boxes.evaluation.table import class_thresholds, flatten, require_ranges, table
from perception3d.formats.custom_boxes.files import write_labels
from perception3d.outputs import require_name
from perception3d.registry import METRICS


@dataclass(frozen=True)
class _Frame:
    """One tested frame: its objects (N, 7) and their labels (N,), the predictions, and names of other objects."""

    frame_id: str
    truth: npt.NDArray[Any]
    truth_labels: npt.NDArray[Any]
    found: FiniteBoxes
    left_out: list[str]


@METRICS.register_module()
class LidarDetectionMetric(SubmissionMetric):
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
        format_dir: Result files are written there, `<frame_id>.txt`, an empty one for a frame without detections;
            `tools/evaluate.py custom-boxes` reads them. Nowhere if None.
        format_only: Write result files, score nothing; the frames need no labels.
        collect_device, prefix: As of mmengine's BaseMetric.
        result_dir: Older name of `format_dir`.
    """

    default_prefix = 'lidar'

    def __init__(
        self,
        iou_thresholds: float | Mapping[str, float] = 0.5,
        range_bins_m: Sequence[tuple[float, float | None]] = (),
        format_dir: str | None = None,
        format_only: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        result_dir: str | None = None,
    ) -> None:
        folder = folder_by_any_name(format_dir, result_dir=result_dir)
        super().__init__(folder, format_only, collect_device, prefix)
        self.iou_thresholds = iou_thresholds
        self.range_bins_m = require_ranges(range_bins_m)

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises InputError if the thresholds name a class that is not among `classes`, or lack one."""
        class_thresholds(self.iou_thresholds, classes)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keeps boxes, scores and labels of a batch, and the objects that come with it."""
        class_thresholds(self.iou_thresholds, self.dataset_meta['classes'])
        for sample in data_samples:
            wanted = ('frame_id',) if self.format_only else ('frame_id', 'eval_ann_info')
            lacking = [key for key in wanted if key not in sample]
            if lacking:
                raise InputError(f'predictions carry no {", ".join(lacking)}: pack them as metas (meta_keys)')
            predicted = sample['pred_instances_3d']
            truth = sample.get('eval_ann_info')
            if truth is None and not self.format_only:
                raise InputError(
                    f'frame {sample["frame_id"]} has no labels, so it cannot be scored: test on another split, or '
                    'write its boxes with tools/infer.py'
                )
            frame = require_name(str(sample['frame_id']), 'frame_id')
            found = finite_boxes(predicted, frame)
            self.results.append(
                _Frame(
                    frame,
                    np.zeros((0, 7)) if truth is None else lidar_boxes(truth['gt_bboxes_3d'], frame),
                    np.asarray([] if truth is None else truth['gt_labels_3d'], np.int64).reshape(-1),
                    found,
                    list((truth or {}).get('left_out', ())),
                )
            )

    def compute_metrics(self, results: list[_Frame]) -> dict[str, float]:
        """Returns the keys that the class describes."""
        frames = [result.frame_id for result in results]
        require_unique(frames, 'frame')
        classes = list(self.dataset_meta['classes'])
        dropped = sum(result.found.dropped for result in results)
        if dropped:
            print_log(f'{dropped} predictions with NaN or infinity were left out', 'current', logging.WARNING)
        if self.format_dir is not None:
            for result in results:
                own = result.found
                names = [classes[label] for label in own.labels]
                write_labels(Path(self.format_dir) / f'{result.frame_id}.txt', own.boxes, names, own.scores)
            print_log(f'results of {len(frames)} frames written to {self.format_dir}', logger='current')
        if self.format_only:
            return {}
        truth, found = [result.truth for result in results], [result.found for result in results]
        every = lidar_scores(
            LidarBoxes(
                np.concatenate(truth),
                np.concatenate([result.truth_labels for result in results]),
                np.cumsum([0, *map(len, truth)]),
            ),
            LidarBoxes(
                np.concatenate([part.boxes for part in found]),
                np.concatenate([part.labels for part in found]),
                np.cumsum([0, *(len(part.boxes) for part in found)]),
                np.concatenate([part.scores for part in found]),
            ),
            class_thresholds(self.iou_thresholds, classes),
            self.range_bins_m,
        )
        left_out = [result.left_out for result in results]
        lines = [f'{len(frames)} frames', table(classes, self.range_bins_m, every)]
        lines += [f'note: {note}' for note in _notes(classes, every[0].objects, left_out)]
        print_log('\n'.join(lines), logger='current')
        return flatten(classes, self.range_bins_m, every)


def _notes(classes: Sequence[str], objects: npt.NDArray[Any], left_out: Sequence[list[str]]) -> list[str]:
    """Says which objects are not scored, and which classes have none."""
    notes = describe_other_classes('objects', Counter(name for names in left_out for name in names))
    empty = [name for name, count in zip(classes, objects, strict=True) if not count]
    if empty:
        notes.append(f'no objects, so no AP: {", ".join(empty)}')
    return notes
