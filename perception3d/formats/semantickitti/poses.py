"""Poses and times of SemanticKITTI's sequences: `poses.txt`, `calib.txt`, `times.txt`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, number_of_word
from perception3d.files import read_lines

Matrices = npt.NDArray[np.float64]
_HINT = 'it is in the archive of calibrations and poses of the KITTI odometry benchmark, or of SemanticKITTI'


def read_poses(folder: str | Path, count: int) -> Matrices:
    """Returns the poses (n >= count, 4, 4) float64 of the LiDAR of a sequence, in the LiDAR frame of its first scan.

    `poses.txt` has a line of 12 numbers for each scan, the pose of camera 0 in that of the first scan, by rows, and
    `calib.txt` a line `Tr` that takes points of the LiDAR to camera 0: global_from_lidar = Tr^-1 pose Tr, as in
    `generate_sequential.py` of semantic-kitti-api.

    Raises:
        InputError: a file is missing, a line is not 12 finite numbers, Tr is missing, or there are fewer than `count`.
    """
    folder = Path(folder)
    camera_from_lidar = _read_tr(folder / 'calib.txt')
    rows = _read_rows(folder / 'poses.txt', 12, count)
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    global_from_lidar: Matrices = np.matmul(np.linalg.inv(camera_from_lidar), np.matmul(poses, camera_from_lidar))
    return global_from_lidar


def read_times(path: str | Path, count: int) -> Matrices:
    """Returns the times (n >= count,) of the scans of a sequence, seconds from its first scan: a line for each.

    Raises:
        InputError: a line is not a finite number, or there are fewer than `count`.
    """
    return _read_rows(Path(path), 1, count)[:, 0]


def _read_tr(path: Path) -> Matrices:
    for number, line in enumerate(_lines(path), start=1):
        name, colon, text = line.partition(':')
        if colon and name.strip() == 'Tr':
            matrix = np.eye(4)
            matrix[:3] = _numbers(path, number, text, 12).reshape(3, 4)
            return matrix
    raise InputError(f'{path} has no line Tr (12 numbers, LiDAR to camera 0): {_HINT}')


def _read_rows(path: Path, width: int, count: int) -> Matrices:
    lines = [(number, line) for number, line in enumerate(_lines(path), start=1) if line.strip()]
    if len(lines) < count:
        raise InputError(f'{path} has {len(lines)} lines: expected one for each of {count} scans')
    return np.stack([_numbers(path, number, line, width) for number, line in lines])


def _lines(path: Path) -> list[str]:
    return read_lines(path, _HINT)


def _numbers(path: Path, line: int, text: str, width: int) -> Matrices:
    try:
        numbers = np.array([number_of_word(word) for word in text.split()])
    except ValueError:
        numbers = np.zeros(0)
    if len(numbers) != width or not np.isfinite(numbers).all():
        raise InputError(f'{path}, line {line}: expected {width} finite numbers, got {text.strip()[:80]!r}')
    return numbers
