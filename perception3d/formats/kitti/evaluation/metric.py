"""KITTI's object benchmark for mmengine's test loop: result files by frame id, scored by the official rules."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mmengine.logging import print_log

from perception3d.checks import InputError, require_file
from perception3d.evaluation.submissions import SubmissionMetric, folder_by_any_name, require_unique
from perception3d.formats.kitti.evaluation.scores import evaluate_folders, flatten, table
from perception3d.formats.kitti.files import Objects, write_objects
from perception3d.formats.kitti.results import CAMERA_OF_RESULTS, predicted_objects
from perception3d.formats.kitti.rules import SCORED
from perception3d.outputs import require_name
from perception3d.registry import METRICS


@METRICS.register_module()
class KittiFrameMetric(SubmissionMetric):
    """2D, AOS, BEV and 3D AP of the tested frames, against the label files of the same frame ids.

    Every sample must pack `frame_id` (the name of its files, '000123'), `cam_from_lidar`, `stored_from_cam` and
    `stored_hw` (see `structures.sample_schema`). What is scored is what a result file holds, with its two decimals, so
    that `tools/evaluate.py kitti` on the files gives the same numbers. mmdet3d's KittiMetric names frames by their
    position in the data set, needs CUDA and misjudges equal boxes.

    Scores: `3d/car/moderate/R40` and so on for 2d, aos, bev, 3d; `3d/mAP/moderate/R40` is the mean over those of the
    benchmark's classes that the data set has.

    Args:
        data_root: The KITTI tree; its label files are training/label_2/<frame_id>.txt.
        gt_dir: Another folder of label files. One of the two is needed, unless `format_only`.
        format_dir: Result files are written there, an empty one for a frame without detections; nowhere if None.
        format_only: Write result files, score nothing.
        result_dir: Older name of `format_dir`.
        drop_outside_image: Leave out boxes of which the image shows nothing, as mmdet3d does: they cannot be right.
        limit_range_m: Leave out boxes whose bottom's middle is outside x0, y0, z0, x1, y1, z1 of the LiDAR frame;
            mmdet3d does so with (0, -40, -3, 70.4, 40, 0).
        loose: Also score with mmdet3d's loose overlaps, below `loose/`.
        collect_device, prefix: As of mmengine's BaseMetric.
    """

    default_prefix = 'kitti'

    def __init__(
        self,
        data_root: str | None = None,
        gt_dir: str | None = None,
        format_dir: str | None = None,
        format_only: bool = False,
        drop_outside_image: bool = True,
        limit_range_m: Sequence[float] | None = None,
        loose: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        result_dir: str | None = None,
    ) -> None:
        folder = folder_by_any_name(format_dir, result_dir=result_dir)
        super().__init__(folder, format_only, collect_device, prefix)
        if gt_dir is None and data_root is not None:
            gt_dir = str(Path(data_root) / 'training' / 'label_2')
        if gt_dir is None and not format_only:
            raise InputError('KittiFrameMetric needs data_root, or gt_dir with the label files, or format_only')
        if limit_range_m is not None and len(limit_range_m) != 6:
            raise InputError(f'limit_range_m is x0, y0, z0, x1, y1, z1, got {len(limit_range_m)} numbers')
        if self.format_dir and gt_dir is not None and Path(self.format_dir).resolve() == Path(gt_dir).resolve():
            raise InputError(f'format_dir {self.format_dir} is the folder of the labels, which results would overwrite')
        self.gt_dir = None if format_only or gt_dir is None else Path(gt_dir)
        self.drop_outside_image = drop_outside_image
        self.limit_range_m = None if limit_range_m is None else np.asarray(limit_range_m, np.float64)
        self.loose = loose

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Converts the predictions of a batch; each data sample holds `pred_instances_3d` and the metas."""
        self.check_classes(self.dataset_meta['classes'])
        for sample in data_samples:
            lacking = [key for key in ('frame_id', *CAMERA_OF_RESULTS) if key not in sample]
            if lacking:
                raise InputError(f'predictions carry no {", ".join(lacking)}: pack them as metas (meta_keys)')
            frame = require_name(str(sample['frame_id']), 'frame_id')
            if self.gt_dir is not None:
                # A test run should learn now, not after its last frame, that it cannot be scored.
                require_file(self.gt_dir / f'{frame}.txt', 'gt_dir must have the labels of every tested frame')
            self.results.append((frame, *self._convert(sample)))

    def _convert(self, sample: dict[str, Any]) -> tuple[Objects, int]:
        """Returns the objects of a sample's result file, and how many predictions were not finite."""
        objects, seen, dropped = predicted_objects(sample, self.dataset_meta['classes'], self.limit_range_m)
        return objects.select(seen) if self.drop_outside_image else objects, dropped

    def compute_metrics(self, results: list[tuple[str, Objects, int]]) -> dict[str, float]:
        """Writes the result files, then scores them; returns the keys that the class describes."""
        frames = [frame for frame, _, _ in results]
        require_unique(frames, 'frame')
        not_finite = sum(count for _, _, count in results)
        if not_finite:
            print_log(f'{not_finite} predictions with NaN or infinity were left out', 'current', logging.WARNING)
        with TemporaryDirectory() as temporary:
            folder = Path(self.format_dir or temporary)
            for frame, objects, _ in results:
                write_objects(folder / f'{frame}.txt', objects)
            if self.format_dir is not None:
                print_log(f'results of {len(frames)} frames written to {folder}', logger='current')
            if self.gt_dir is None:
                return {}
            result = evaluate_folders(self.gt_dir, folder, self.loose, frames=frames)
        print_log(table(result), logger='current')
        return flatten(result.scores, self.check_classes(self.dataset_meta['classes']))

    def check_classes(self, classes: Sequence[str]) -> list[str]:
        """Returns those of the benchmark's classes that are among `classes`; InputError if there are none."""
        lower = {str(name).lower() for name in classes}
        known = [scored.name for scored in SCORED if scored.name in lower]
        if not known:
            listed = ', '.join(scored.name for scored in SCORED)
            raise InputError(f'none of the classes {", ".join(map(str, classes))} is scored: it takes {listed}')
        return known
