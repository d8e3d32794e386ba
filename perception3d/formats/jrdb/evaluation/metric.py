"""JRDB's 3D score for mmengine's test loop, and the result files."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.evaluation.predictions import FiniteBoxes, finite_boxes, lidar_boxes
from perception3d.evaluation.submissions import SubmissionMetric, require_unique
from perception3d.formats.jrdb.evaluation.folders import score_tables, table
from perception3d.formats.jrdb.evaluation.scores import JrdbTable
from perception3d.formats.jrdb.files import FrameObjects, frame_of_boxes, write_frame
from perception3d.formats.jrdb.rules import MIN_POINTS
from perception3d.formats.kitti.evaluation.reading import TYPES
from perception3d.outputs import require_name
from perception3d.registry import METRICS


@dataclass(frozen=True)
class _Tested:
    """A tested frame: its sequence and number, the predictions, its people, and how many of them are not ignored."""

    sequence: str
    number: str
    found: FiniteBoxes
    people: npt.NDArray[Any]
    counted: int


@METRICS.register_module()
class JrdbMetric(SubmissionMetric):
    """`ap@0.3`, `ap@0.5`, `ap@0.7`: JRDB's 3D AP in percent over all frames, as its toolkit computes it.

    They are those of `tools/evaluate.py jrdb` on the written files, but that the data set says who is ignored: see
    `JrdbDataset`. The table in the log has the AP of each sequence. 2D is scored of files alone.

    A sample must pack `frame_id` ('bytes-cafe-2019-02-07_0_000123'), `scene_token` (the sequence) and `eval_ann_info`
    with `gt_bboxes_3d` (LiDARInstance3DBoxes in the frame of the robot) and, where people are ignored,
    `ignored_bboxes_3d` (M, 9).

    Arguments are those of SubmissionMetric; result files are `SEQUENCE/FRAME.txt`, an empty one for a frame without
    detections.
    """

    default_prefix = 'jrdb'

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keeps predictions and people of a batch."""
        for sample in data_samples:
            lacking = [key for key in ('frame_id', 'scene_token', 'pred_instances_3d') if sample.get(key) is None]
            if lacking:
                raise InputError(f'tested samples carry no {", ".join(lacking)}: pack them as metas (meta_keys)')
            token, sequence = str(sample['frame_id']), require_name(str(sample['scene_token']), 'scene_token')
            truth = sample.get('eval_ann_info')
            if truth is None and not self.format_only:
                raise InputError(
                    f'frame {token} has no labels, so it cannot be scored: test on another split, or write result '
                    'files (--format-only)'
                )
            boxes, ignored = np.zeros((0, 7)), np.zeros((0, 7))
            if truth is not None:
                boxes = lidar_boxes(truth['gt_bboxes_3d'], token)
                ignored = np.asarray(truth.get('ignored_bboxes_3d', ignored), np.float64)[:, :7]
            self.results.append(
                _Tested(
                    sequence,
                    require_name(token.rpartition('_')[2], 'frame_id'),
                    finite_boxes(sample['pred_instances_3d'], token),
                    np.concatenate([boxes, ignored]),
                    len(boxes),
                )
            )

    def compute_metrics(self, results: list[_Tested]) -> dict[str, float]:
        """Returns the keys that the class describes."""
        require_unique((f'{frame.sequence}_{frame.number}' for frame in results), 'frame')
        results = sorted(results, key=lambda frame: (frame.sequence, frame.number))
        dropped = sum(frame.found.dropped for frame in results)
        if dropped:
            print_log(f'{dropped} predictions with NaN or infinity were left out', 'current', logging.WARNING)
        found = [frame_of_boxes(frame.found.boxes, frame.found.scores) for frame in results]
        if self.format_dir is not None:
            for frame, own in zip(results, found):
                write_frame(Path(self.format_dir) / frame.sequence / f'{frame.number}.txt', own)
            print_log(f'results of {len(results)} frames written to {self.format_dir}', logger='current')
        if self.format_only:
            return {}
        truth = [_people(frame) for frame in results]
        scores = score_tables(_joined(truth), _joined(found), '3d', dict(Counter(frame.sequence for frame in results)))
        print_log('\n'.join(table('3d', scores, len(results))), logger='current')
        return {f'ap@{overlap}': part['overall'] for overlap, part in scores.items()}


def _people(frame: _Tested) -> FrameObjects:
    """Returns the people as the text file has them; points say who counts, since the data set has decided it."""
    points = np.where(np.arange(len(frame.people)) < frame.counted, MIN_POINTS, 0)
    return frame_of_boxes(frame.people, num_points=points)


def _joined(frames: Sequence[FrameObjects]) -> JrdbTable:
    rows = []
    for o in (frame.objects for frame in frames):
        scores = np.ones(len(o)) if o.scores is None else o.scores
        columns = (o.truncated, o.occluded, o.alpha_rad, o.boxes_2d, o.sizes_m, o.bottom_centers_m, o.rotation_y_rad)
        rows.append(np.column_stack([*columns, scores]).reshape(-1, 15))
    numbers = np.concatenate([np.zeros((0, 15)), *rows])
    return JrdbTable(
        np.full(len(numbers), TYPES.index('pedestrian')),
        numbers,
        np.concatenate([np.zeros(0, np.int64), *(frame.num_points for frame in frames)]),
        np.cumsum([0, *map(len, frames)]),
    )
