"""The sensor frames of a nuScenes scene, in order of time, with their poses: what history frames are chosen from."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.files import file_names
from perception3d.geometry.camera import chain, invert_rigid, rigid

if TYPE_CHECKING:
    from nuscenes import NuScenes


@dataclass(frozen=True)
class Track:
    """All frames of one sensor in one scene, keyframes and sweeps, in order of time.

    records: n rows of the table sample_data. time_us: (n,) int64. poses and sensors: their n rows of the tables
    ego_pose and calibrated_sensor. Matrices are made when they are first asked for.
    """

    records: list[dict[str, Any]]
    time_us: npt.NDArray[Any]
    poses: list[dict[str, Any]]
    sensors: list[dict[str, Any]]

    @cached_property
    def global_from_ego(self) -> npt.NDArray[Any]:
        """(n, 4, 4), each at the frame's own time."""
        return _matrices(self.poses)

    @cached_property
    def ego_from_sensor(self) -> npt.NDArray[Any]:
        """(n, 4, 4), the calibration."""
        return _matrices(self.sensors)

    @cached_property
    def global_from_sensor(self) -> npt.NDArray[Any]:
        """(n, 4, 4)."""
        return chain(self.global_from_ego, self.ego_from_sensor)

    @cached_property
    def sensor_from_global(self) -> npt.NDArray[Any]:
        """(n, 4, 4)."""
        return invert_rigid(self.global_from_sensor)

    @cached_property
    def row(self) -> dict[str, int]:
        """From the token of a frame to its row."""
        return {record['token']: i for i, record in enumerate(self.records)}

    def nearest(self, current: int, offset_s: float) -> int:
        """Returns the row nearest in time to row `current` plus `offset_s` seconds, among rows up to `current`.

        Never a later frame: where a scene has no frame so old, its oldest one stands in.
        """
        past_us = self.time_us[: current + 1]
        wanted_us = past_us[-1] + round(offset_s * 1e6)
        after = int(np.searchsorted(past_us, wanted_us))
        candidates = [row for row in (after - 1, after) if 0 <= row <= current]
        return min(candidates, key=lambda row: abs(int(past_us[row]) - int(wanted_us)))


def group_frames(nusc: NuScenes) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Returns scene token -> channel -> rows of sample_data, unsorted; one pass over the table."""
    scene_of = {sample['token']: sample['scene_token'] for sample in nusc.sample}
    grouped: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for record in nusc.sample_data:
        if record['sensor_modality'] in ('camera', 'lidar'):
            grouped[scene_of[record['sample_token']]][record['channel']].append(record)
    return grouped


def _matrices(rows: list[dict[str, Any]]) -> npt.NDArray[Any]:
    return rigid(np.array([row['rotation'] for row in rows]), np.array([row['translation'] for row in rows]))


def make_track(nusc: NuScenes, records: list[dict[str, Any]]) -> Track:
    """Sorts the rows of one sensor and looks up their poses and calibrations."""
    records = sorted(records, key=lambda record: record['timestamp'])
    return Track(
        records=records,
        time_us=np.array([record['timestamp'] for record in records], np.int64),
        poses=[nusc.get('ego_pose', record['ego_pose_token']) for record in records],
        sensors=[nusc.get('calibrated_sensor', record['calibrated_sensor_token']) for record in records],
    )


def require_files(root: Path, relative_paths: Iterable[str]) -> None:
    """Raises InputError with the first missing ones and their number, unless every path is a file below `root`.

    Folders are listed once each, which for a million files is far quicker than asking for every file.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for path in relative_paths:
        folder, name = os.path.split(path)
        wanted[folder].append(name)
    missing, total = [], 0
    for folder, names in wanted.items():
        total += len(names)
        present = file_names(root / folder)
        missing += [f'{folder}/{name}' for name in names if name not in present]
    if missing:
        some = ', '.join(missing[:3]) + (', ...' if len(missing) > 3 else '')
        raise InputError(f'{len(missing)} of {total} files are missing in {root}: {some}: unpack the sensor archives')
