"""STCrowd's scores for mmengine's test loop."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.evaluation.crowd_frames import CrowdFrame, People, Predictions
from perception3d.evaluation.crowd_options import CrowdOptions, make_options
from perception3d.evaluation.crowd_report import flatten, table
from perception3d.evaluation.crowd_scores import score_crowds
from perception3d.evaluation.predictions import FiniteBoxes, finite_boxes, lidar_boxes
from perception3d.evaluation.submissions import SubmissionMetric, require_unique
from perception3d.formats.stcrowd.evaluation.folders import TRACKS
from perception3d.formats.stcrowd.evaluation.truth import is_ignored
from perception3d.formats.stcrowd.files import Frame, frame_token, write_sequence
from perception3d.formats.stcrowd.files import Sequence as SequenceOfFrames
from perception3d.formats.stcrowd.results import people_of_boxes
from perception3d.formats.stcrowd.rules import OTHER
from perception3d.outputs import require_name
from perception3d.registry import METRICS


@dataclass(frozen=True)
class _Tested:
    """A tested frame: its sequence, number and cloud, its predictions, tracks (boxes, scores, ids) and its people."""

    sequence: str
    number: int
    cloud: str
    found: FiniteBoxes
    tracks: tuple[Any, Any, Any] | None
    people: People | None


@METRICS.register_module()
class STCrowdMetric(SubmissionMetric):
    """Scores of crowds by the distance of centres, and of tracks: see `evaluation.crowd_scores.score_crowds`.

    Keys of the log: `stcrowd/map`, `stcrowd/ap@0.25`, `stcrowd/ar`, `stcrowd/ar@occ2`, `stcrowd/recall@n2m_4+`,
    `stcrowd/duplicate_rate`, `stcrowd/mota` and so on, see `evaluation.crowd_report.flatten`. They are those of
    `tools/evaluate.py stcrowd` with an info file on the written files.

    A sample must pack `frame_id` ('012_000345'), `scene_token` (the sequence) and `eval_ann_info` with `gt_bboxes_3d`
    (LiDARInstance3DBoxes), `gt_labels_3d` (below 0: ignored), optionally `ignored_bboxes_3d` (M, 9), `occlusion`,
    `track_ids` and `num_lidar_pts`. Of people in `ignored_bboxes_3d` the settings `ignore_sitting` and
    `ignore_few_points` decide where `ignored_reasons`, `ignored_num_lidar_pts` and so on say more of them, as those of
    STCrowdDataset do; without these all are ignored. Where a sample has `pred_tracks`, tracks are scored.

    Args:
        compat: preset of `evaluation.crowd_options.COMPAT`, such as 'crowdquery'.
        settings: fields of `evaluation.crowd_options.CrowdOptions` that differ from it.
        kwargs: of SubmissionMetric; result files are `SEQUENCE.json` in the layout of the annotations with a `score`
            for each item, those of tracks are in `tracks/`.

    Raises:
        InputError: settings as of CrowdOptions, or a folder that cannot be written.
    """

    default_prefix = 'stcrowd'

    def __init__(
        self,
        compat: str | None = None,
        settings: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.options = make_options(compat, **(settings or {}))

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keeps predictions, tracks and people of a batch."""
        for sample in data_samples:
            lacking = [key for key in ('frame_id', 'scene_token', 'pred_instances_3d') if sample.get(key) is None]
            if lacking:
                raise InputError(f'tested samples carry no {", ".join(lacking)}: pack them as metas (meta_keys)')
            token = str(sample['frame_id'])
            name, _, number = token.rpartition('_')
            if not (name and number.isdecimal()):
                raise InputError(f'frame_id is {token!r}: expected SEQUENCE_NUMBER, such as 012_000345')
            tracks = sample.get('pred_tracks')
            self.results.append(
                _Tested(
                    require_name(str(sample['scene_token']), 'scene_token'),
                    int(number),
                    str(sample.get('lidar_path') or ''),
                    finite_boxes(sample['pred_instances_3d'], token),
                    None if tracks is None else _finite_tracks(tracks),
                    None if self.format_only else _people(sample.get('eval_ann_info'), token, self.options),
                )
            )

    def compute_metrics(self, results: list[_Tested]) -> dict[str, float]:
        """Returns the keys that the class describes."""
        results = sorted(results, key=lambda frame: (frame.sequence, frame.number))
        require_unique((frame_token(frame.sequence, frame.number) for frame in results), 'frame')
        dropped = sum(frame.found.dropped for frame in results)
        if dropped:
            print_log(f'{dropped} predictions with NaN or infinity were left out', 'current', logging.WARNING)
        if self.format_dir is not None:
            _write(Path(self.format_dir), results, int((self.dataset_meta or {}).get('yaw_sign', 1)))
            print_log(f'results of {len(results)} frames written to {self.format_dir}', logger='current')
        if self.format_only:
            return {}
        scored = score_crowds([_crowd_frame(frame) for frame in results], self.options)
        print_log(table(scored), logger='current')
        return flatten(scored.scores, self.options)


def _people(annotations: dict[str, Any] | None, token: str, options: CrowdOptions) -> People:
    if annotations is None:
        raise InputError(
            f'frame {token} has no labels, so it cannot be scored: test on another split, or write result files '
            '(--format-only)'
        )
    boxes = lidar_boxes(annotations['gt_bboxes_3d'], token)
    labels = np.asarray(annotations['gt_labels_3d'], np.int64).reshape(-1)
    others = annotations.get('ignored_bboxes_3d')
    ignored = np.zeros((0, 9)) if others is None else np.asarray(getattr(others, 'tensor', others), np.float64)
    count = len(ignored)

    def values(name: str) -> Any:
        both = zip((name, f'ignored_{name}'), (len(boxes), count))
        return np.concatenate([np.asarray(annotations.get(key, np.full(size, -1)), np.int64) for key, size in both])

    points, reasons = values('num_lidar_pts'), annotations.get('ignored_reasons')
    return People(
        _centers(np.concatenate([boxes[:, :7], ignored.reshape(count, -1)[:, :7]]) if count else boxes),
        np.concatenate(
            [
                labels < 0,
                np.ones(count, bool) if reasons is None else _ignored(ignored, points[-count:], reasons, options),
            ]
        ),
        values('occlusion'),
        points,
        values('track_ids'),
    )


def _ignored(boxes: Any, points: Any, reasons: Any, options: CrowdOptions) -> Any:
    """Returns which (M,) of the people whom the data set ignores are ignored by these options, but for the place."""
    rows = zip(boxes, points, reasons)
    return np.array(
        [
            is_ignored(tuple(box[3:6]), None if count < 0 else int(count), reason != OTHER, options)
            for box, count, reason in rows
        ],
        bool,
    )


def _centers(boxes: Any) -> Any:
    """Returns the middles (N, 3) of boxes (N, >=7) with the bottom's middle."""
    centers = np.array(boxes[:, :3], np.float64)
    centers[:, 2] += boxes[:, 5] / 2
    return centers


def _finite_tracks(tracks: Any) -> tuple[Any, Any, Any]:
    kept, _ = tracks.drawable()
    scores = np.ones(len(kept)) if kept.boxes.scores is None else kept.boxes.scores
    return kept.boxes.boxes, scores, kept.ids


def _crowd_frame(frame: _Tested) -> CrowdFrame:
    assert frame.people is not None
    tracks = None
    if frame.tracks is not None:
        boxes, scores, ids = frame.tracks
        tracks = Predictions(_centers(boxes), scores, ids)
    return CrowdFrame(
        frame.sequence, frame.people, Predictions(_centers(frame.found.boxes), frame.found.scores), tracks
    )


def _write(folder: Path, results: list[_Tested], yaw_sign: int) -> None:
    """Writes the result file of each sequence, and that of its tracks."""
    for name in dict.fromkeys(frame.sequence for frame in results):
        own = [frame for frame in results if frame.sequence == name]
        frames = [Frame(f.number, f.cloud, people_of_boxes(f.found.boxes, f.found.scores, None, yaw_sign)) for f in own]
        write_sequence(folder / f'{name}.json', SequenceOfFrames(name, tuple(frames)))
        tracked = [Frame(f.number, f.cloud, people_of_boxes(*f.tracks, yaw_sign)) for f in own if f.tracks is not None]
        if tracked:
            write_sequence(folder / TRACKS / f'{name}.json', SequenceOfFrames(name, tuple(tracked)))
