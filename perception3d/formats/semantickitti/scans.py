"""Earlier scans of a sequence, in the LiDAR frame of the current one: more points for a model, none of them scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mmcv.transforms import BaseTransform

from perception3d.checks import InputError
from perception3d.datasets.point_clouds import read_cloud
from perception3d.formats.semantickitti.files import POINT_FEATURES
from perception3d.registry import TRANSFORMS
from perception3d.structures.point_labels import IGNORE

SCAN_PERIOD_S = 0.1
"""Time between scans where there is no `times.txt`: the sensor turns ten times a second."""


def earlier_scan(scan: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entry of a scan in `earlier_scans` of a later one of its sequence.

    Args:
        scan, current: `frame_id`, `lidar_path`, `global_from_lidar`, where known `timestamp` and
            `pts_semantic_mask_path`.

    Returns:
        `lidar_path` and `pts_semantic_mask_path` (None without labels) of the scan, `lidar_from_earlier` (4, 4), which
        takes its points to the LiDAR frame of the current scan, and `age_s`.
    """
    poses = [np.array(each['global_from_lidar'], np.float64) for each in (current, scan)]
    return {
        'lidar_path': scan['lidar_path'],
        'pts_semantic_mask_path': scan.get('pts_semantic_mask_path'),
        'lidar_from_earlier': np.linalg.inv(poses[0]) @ poses[1],
        'age_s': _age_s(scan, current),
    }


def _age_s(scan: Mapping[str, Any], current: Mapping[str, Any]) -> float:
    if 'timestamp' in scan and 'timestamp' in current:
        return float(current['timestamp'] - scan['timestamp'])
    numbers = [int(each['frame_id'].rpartition('_')[2]) for each in (current, scan)]
    return SCAN_PERIOD_S * (numbers[0] - numbers[1])


@dataclass(frozen=True)
class GapLimits:
    """How far apart two scans of one drive are at most, one after the other: in time, and on the way between them."""

    time_s: float = 1.0
    distance_m: float = 100.0

    def are_kept(self, scan: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
        """Whether a scan and the one after it are of one drive."""
        places = [[row[3] for row in each['global_from_lidar'][:3]] for each in (scan, after)]
        return abs(_age_s(scan, after)) <= self.time_s and math.dist(*places) <= self.distance_m


def earlier_scans_of(
    current: Mapping[str, Any], before: Sequence[Mapping[str, Any]], limits: GapLimits
) -> list[dict[str, Any]]:
    """Returns the entries of the scans before the current one, the last one first, back to the first gap.

    Args:
        current, before: as of `earlier_scan`; `before` from the last one backwards, of the same sequence.
        limits: a larger gap begins another drive. Scans behind it show another place: the built-in world writes scenes
            that are far apart into one sequence. The sequences of the real data set have no such gap.
    """
    found, after = [], current
    for scan in before:
        if not limits.are_kept(scan, after):
            break
        found.append(earlier_scan(scan, current))
        after = scan
    return found


@TRANSFORMS.register_module()
class LoadEarlierScans(BaseTransform):
    """Adds the points of `earlier_scans` behind those of the current scan, the last scan first, in its LiDAR frame.

    It stands behind `LoadPointLabels`, of a `SemanticKittiDataset` with `earlier_scans`. Points get one more column,
    their age in seconds. Earlier points have the labels of their own files, as in `generate_sequential.py` of
    semantic-kitti-api. `num_scored_points`, which belongs among the meta keys, says how many points are of the current
    scan.

    Raises:
        InputError: the data set has no earlier scans, or a file cannot be used.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds to `points` and the labels."""
        if 'earlier_scans' not in results:
            raise InputError(
                'LoadEarlierScans needs earlier_scans=N of the SemanticKittiDataset: set that, or leave out the step'
            )
        current = results['points']
        width = current.tensor.shape[1]
        parts = [np.column_stack([current.tensor.numpy(), np.zeros(len(current), np.float32)])]
        for scan in results['earlier_scans']:
            points = _moved(read_cloud(scan['lidar_path'], POINT_FEATURES), scan['lidar_from_earlier'])[:, :width]
            parts.append(np.column_stack([points, np.full(len(points), scan['age_s'], np.float32)]))
            self._add_labels(results, scan, len(points))
        results['num_scored_points'] = len(current)
        results['points'] = type(current)(torch.from_numpy(np.concatenate(parts)), points_dim=width + 1)
        return results

    @staticmethod
    def _add_labels(results: dict[str, Any], scan: Mapping[str, Any], count: int) -> None:
        if 'pts_semantic_mask' not in results:
            return
        found = {'pts_semantic_mask': np.full(count, IGNORE, np.int64), 'pts_instance_mask': np.zeros(count, np.int64)}
        path, encoding = scan['pts_semantic_mask_path'], results['label_encoding']
        if path is not None:
            stored = encoding.read(path, count)
            found = {'pts_semantic_mask': encoding.labels(stored, path), 'pts_instance_mask': encoding.objects(stored)}
        for labels in (results, results.get('eval_ann_info') or {}):
            labels.update({key: np.append(labels[key], values) for key, values in found.items() if key in labels})


def _moved(points: npt.NDArray[np.float32], lidar_from_earlier: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    moved: npt.NDArray[np.float32] = points.copy()
    moved[:, :3] = points[:, :3].astype(np.float64) @ lidar_from_earlier[:3, :3].T + lidar_from_earlier[:3, 3]
    return moved


def join_scans(samples: Sequence[dict[str, Any]], count: int, limits: GapLimits, source: str) -> None:
    """Gives each sample `earlier_scans`: up to `count` scans before it in its sequence, see `earlier_scans_of`.

    Raises:
        InputError: a scan has no pose; names `source`, the info file.
    """
    for sample in samples:
        if 'global_from_lidar' not in sample:
            raise InputError(
                f'{source}: scan {sample["frame_id"]} has no pose, which earlier_scans needs: put calib.txt and '
                'poses.txt into its sequence and run tools/create_data.py semantickitti --multi-scan'
            )
    for index, sample in enumerate(samples):
        before = samples[max(0, index - count) : index][::-1]
        same = [other for other in before if other['scene_token'] == sample['scene_token']]
        sample['earlier_scans'] = earlier_scans_of(sample, same, limits)
