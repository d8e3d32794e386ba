"""KITTI's object benchmark for mmengine's test loop: result files by frame id, scored by the official rules."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from perception3d.checks import InputError, require_file
from perception3d.formats.kitti.evaluation.scores import CLASSES, evaluate_folders, flatten, table
from perception3d.formats.kitti.files import (
    Objects,
    camera_corners,
    camera_fields_from_lidar,
    observation_angle,
    write_objects,
)
from perception3d.geometry.frustum import NEAR_M, near_cuts
from perception3d.outputs import check_outputs, require_name
from perception3d.registry import METRICS

_EDGES = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3], [1, 2, 3, 0, 5, 6, 7, 4, 4, 5, 6, 7]])


def image_boxes(
    corners_cam: np.ndarray, img_from_cam: np.ndarray, image_hw: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Projects boxes into an image: the rectangle around the part that is in front of the camera, clipped to the image.

    A box that reaches behind the camera is cut 0.1 m before it, where mmdet3d would mirror the corners behind.

    Args:
        corners_cam: (N, 8, 3) corners from `kitti_files.camera_corners`, metres.
        img_from_cam: (4, 4) pixels times depth from the same frame.
        image_hw: height and width of the image in pixels.

    Returns:
        (N, 4) x1, y1, x2, y2 in pixels, zeros for a box behind the camera; (N,) whether the image sees any of the box.
    """
    homogeneous = corners_cam @ img_from_cam[:3, :3].T + img_from_cam[:3, 3]
    first, second = homogeneous[:, _EDGES[0]], homogeneous[:, _EDGES[1]]
    cuts, crosses = near_cuts(first, second)
    points = np.concatenate([homogeneous, cuts], 1)
    usable = np.concatenate([homogeneous[..., 2] >= NEAR_M, crosses], 1)
    pixels = points[..., :2] / np.where(usable, points[..., 2], 1.0)[..., None]
    low = np.where(usable[..., None], pixels, np.inf).min(1)
    high = np.where(usable[..., None], pixels, -np.inf).max(1)
    size = np.array([image_hw[1], image_hw[0]], np.float64)
    seen = (low < size).all(1) & (high > 0).all(1)
    boxes = np.concatenate([low.clip(0, size), high.clip(0, size)], 1)
    return np.where(usable.any(1)[:, None], boxes, 0.0), seen


def result_objects(
    boxes: np.ndarray,
    scores: np.ndarray,
    names: np.ndarray,
    cam_from_lidar: np.ndarray,
    img_from_cam: np.ndarray,
    image_hw: Sequence[int],
) -> tuple[Objects, np.ndarray]:
    """Converts boxes of the LiDAR frame to what a result file holds.

    Args:
        boxes: (N, >=7) x, y, z of the bottom's middle, l, w, h, yaw; metres, radians.
        scores: (N,).
        names: (N,) types.
        cam_from_lidar: (4, 4) rectified camera 0 from LiDAR.
        img_from_cam, image_hw: as of `image_boxes`.

    Returns:
        The objects, and (N,) whether the image sees any of each.
    """
    sizes, places, rotation = camera_fields_from_lidar(boxes.astype(np.float64), cam_from_lidar)
    rectangles, seen = image_boxes(camera_corners(sizes, places, rotation), img_from_cam, image_hw)
    unknown = np.full(len(boxes), -1)
    alpha = observation_angle(places, rotation)
    return Objects(names, unknown.astype(np.float64), unknown, alpha, rectangles, sizes, places, rotation, scores), seen


@METRICS.register_module()
class KittiFrameMetric(BaseMetric):
    """2D, AOS, BEV and 3D AP of the tested frames, against the label files of the same frame ids.

    Every sample must pack `frame_id` (the name of its files, '000123'), `lidar2cam` (4, 4) rectified camera 0 from
    LiDAR, `cam2img` (4, 4) and `image_hw`. What is scored is what a result file holds, with its two decimals, so that
    `tools/evaluate.py kitti` on the files gives the same numbers. mmdet3d's KittiMetric names frames by their position
    in the data set, needs CUDA and misjudges equal boxes.

    Scores: `3d/car/moderate/R40` and so on for 2d, aos, bev, 3d; `3d/mAP/moderate/R40` is the mean over those of the
    benchmark's classes that the data set has.

    Args:
        data_root: The KITTI tree; its label files are training/label_2/<frame_id>.txt.
        gt_dir: Another folder of label files. One of the two is needed, unless `format_only`.
        result_dir: Result files are written there, an empty one for a frame without detections; nowhere if None.
        format_only: Write result files, score nothing.
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
        result_dir: str | None = None,
        format_only: bool = False,
        drop_outside_image: bool = True,
        limit_range_m: Sequence[float] | None = None,
        loose: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if format_only and result_dir is None:
            raise InputError('format_only needs result_dir, the folder of the result files')
        if gt_dir is None and data_root is not None:
            gt_dir = Path(data_root) / 'training' / 'label_2'
        if gt_dir is None and not format_only:
            raise InputError('KittiFrameMetric needs data_root, or gt_dir with the label files, or format_only')
        if limit_range_m is not None and len(limit_range_m) != 6:
            raise InputError(f'limit_range_m is x0, y0, z0, x1, y1, z1, got {len(limit_range_m)} numbers')
        check_outputs(folders=[result_dir])
        if result_dir is not None and gt_dir is not None and Path(result_dir).resolve() == Path(gt_dir).resolve():
            raise InputError(f'result_dir {result_dir} is the folder of the labels, which results would overwrite')
        self.gt_dir = None if format_only else Path(gt_dir)
        self.result_dir = result_dir
        self.drop_outside_image = drop_outside_image
        self.limit_range_m = None if limit_range_m is None else np.asarray(limit_range_m, np.float64)
        self.loose = loose

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Converts the predictions of a batch; each data sample holds `pred_instances_3d` and the metas."""
        self.check_classes(self.dataset_meta['classes'])
        for sample in data_samples:
            lacking = [key for key in ('frame_id', 'lidar2cam', 'cam2img', 'image_hw') if key not in sample]
            if lacking:
                raise InputError(f'predictions carry no {", ".join(lacking)}: pack them as metas (meta_keys)')
            frame = require_name(str(sample['frame_id']), 'frame_id')
            if self.gt_dir is not None:
                # A test run should learn now, not after its last frame, that it cannot be scored.
                require_file(self.gt_dir / f'{frame}.txt', 'gt_dir must have the labels of every tested frame')
            self.results.append((frame, *self._convert(sample)))

    def _convert(self, sample: dict) -> tuple[Objects, int]:
        """Returns the objects of a sample's result file, and how many predictions were not finite."""
        predicted = sample['pred_instances_3d']
        if not isinstance(predicted['bboxes_3d'], LiDARInstance3DBoxes):
            kind = type(predicted['bboxes_3d']).__name__
            raise InputError(f'KittiFrameMetric takes LiDARInstance3DBoxes, frame {sample["frame_id"]} has {kind}')
        boxes = predicted['bboxes_3d'].tensor.detach().cpu().double().numpy()[:, :7]
        scores = predicted['scores_3d'].detach().cpu().double().numpy()
        labels = predicted['labels_3d'].detach().cpu().numpy()
        kept = finite = np.isfinite(boxes).all(1) & np.isfinite(scores)
        if self.limit_range_m is not None:
            low, high = self.limit_range_m[:3], self.limit_range_m[3:]
            kept = kept & (boxes[:, :3] > low).all(1) & (boxes[:, :3] < high).all(1)
        names = np.array(self.dataset_meta['classes'], dtype='U32')[labels[kept]]
        matrices = (np.asarray(sample[key], np.float64) for key in ('lidar2cam', 'cam2img'))
        objects, seen = result_objects(boxes[kept], scores[kept], names, *matrices, sample['image_hw'])
        return objects.pick(seen) if self.drop_outside_image else objects, int((~finite).sum())

    def compute_metrics(self, results: list[tuple[str, Objects, int]]) -> dict[str, float]:
        """Writes the result files, then scores them; returns the keys that the class describes."""
        frames = [frame for frame, _, _ in results]
        if len(set(frames)) < len(frames):
            twice = sorted({frame for frame in frames if frames.count(frame) > 1})
            raise InputError(f'frame {", ".join(twice[:3])} was predicted more than once: frame ids must be unique')
        not_finite = sum(count for _, _, count in results)
        if not_finite:
            print_log(f'{not_finite} predictions with NaN or infinity were left out', 'current', logging.WARNING)
        with TemporaryDirectory() as temporary:
            folder = Path(self.result_dir or temporary)
            for frame, objects, _ in results:
                write_objects(folder / f'{frame}.txt', objects)
            if self.result_dir is not None:
                print_log(f'results of {len(frames)} frames written to {folder}', logger='current')
            if self.gt_dir is None:
                return {}
            result = evaluate_folders(self.gt_dir, folder, self.loose, frames=frames)
        print_log(table(result), logger='current')
        return flatten(result.scores, self.check_classes(self.dataset_meta['classes']))

    def check_classes(self, classes: Sequence[str]) -> list[str]:
        """Returns those of the benchmark's classes that are among `classes`; InputError if there is none."""
        known = [name for name in CLASSES if name in {str(c).lower() for c in classes}]
        if not known:
            raise InputError(
                f'none of the classes {", ".join(map(str, classes))} is scored: it takes {", ".join(CLASSES)}'
            )
        return known
