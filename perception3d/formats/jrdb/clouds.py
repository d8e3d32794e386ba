"""JRDB's clouds: `.pcd` files of two LiDARs, one above the other, and both together in the frame of the robot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mmcv.transforms import BaseTransform
from mmdet3d.structures.points import LiDARPoints
from numba import njit

from perception3d.checks import InputError, require_file
from perception3d.datasets.point_clouds import read_cloud
from perception3d.registry import TRANSFORMS

NUM_FEATURES = 4
"""Floats of a point as it is loaded: x, y, z in metres, intensity 0..1, 0 where the file has none."""
_MAX_INTENSITY = 255.0
_TYPES = {'F': 'f', 'I': 'i', 'U': 'u'}


def read_pcd(path: str | Path) -> npt.NDArray[np.float32]:
    """Returns the points (N, 4) of a `.pcd` file in ASCII, binary or compressed binary: x, y, z, intensity / 255.

    Points that are not finite, which stand for a beam without a return, are left out.

    Raises:
        InputError: the file is missing, is no such file, has no x, y, z, or is cut off.
    """
    path = require_file(path, 'check the data root and that the archive was unpacked completely')
    content = path.read_bytes()
    header, kind, start = _header(path, content)
    try:
        names, count = header['FIELDS'], int(header.get('POINTS', header.get('WIDTH', ['']))[0])
        dtype = _dtype(names, header)
        if kind == 'ascii':
            rows = np.array(content[start:].split(), np.float64).reshape(count, -1)
            columns = {name: rows[:, k] for k, name in enumerate(names)}
        elif kind == 'binary':
            table = np.frombuffer(content, dtype, count, start)
            columns = {name: table[name] for name in names}
        else:
            columns = _compressed(content, start, dtype, count)
        points = np.stack([columns[axis].astype(np.float32) for axis in 'xyz'], 1)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(f'{path} is not a whole .pcd file of points x, y, z ({error}): copy it again') from None
    intensity = columns.get('intensity', np.zeros(count)).astype(np.float32) / np.float32(_MAX_INTENSITY)
    cloud = np.column_stack([points, intensity])
    kept: npt.NDArray[np.float32] = cloud[np.isfinite(cloud).all(1)]
    return kept


def _header(path: Path, content: bytes) -> tuple[dict[str, list[str]], str, int]:
    """Returns the entries of the header, how the data are stored, and where they begin."""
    header: dict[str, list[str]] = {}
    start = 0
    while True:
        end = content.find(b'\n', start, start + 4096)
        key, *values = content[start:end].decode('ascii', 'replace').split() if end >= 0 else ['']
        start = end + 1
        if key == 'DATA' and values and values[0] in ('ascii', 'binary', 'binary_compressed'):
            return header, values[0], start
        if end < 0 or key == 'DATA' or len(header) > 32:
            raise InputError(f'{path} has no header of a .pcd file with DATA ascii, binary or binary_compressed')
        header[key] = values


def _dtype(names: Sequence[str], header: Mapping[str, list[str]]) -> np.dtype[Any]:
    counts = map(int, header.get('COUNT', ['1'] * len(names)))
    return np.dtype(
        [
            (name, f'<{_TYPES[kind]}{size}', (count,)) if count != 1 else (name, f'<{_TYPES[kind]}{size}')
            for name, kind, size, count in zip(names, header['TYPE'], header['SIZE'], counts, strict=True)
        ]
    )


def _compressed(content: bytes, start: int, dtype: np.dtype[Any], count: int) -> dict[str, npt.NDArray[Any]]:
    """Returns the columns of compressed data: two lengths, then the fields one after the other in LZF."""
    packed, size = (int(number) for number in np.frombuffer(content, '<u4', 2, start))
    block = np.frombuffer(content, np.uint8, packed, start + 8)
    if size != dtype.itemsize * count:
        raise ValueError(f'{size} bytes for {count} points')
    data = np.empty(size, np.uint8)
    if _unpack_lzf(block, data) != size:
        raise ValueError('the compressed data end too early')
    columns, at = {}, 0
    for name in dtype.names or ():
        length = dtype[name].itemsize * count
        columns[name] = data[at : at + length].view(dtype[name].base).reshape(count, -1)[:, 0]
        at += length
    return columns


@njit(cache=True)
def _unpack_lzf(block: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> int:
    """Unpacks LZF (Lehmann's liblzf) into `out`; returns the number of bytes, -1 for data that are damaged."""
    i, k = 0, 0
    while i < len(block):
        control = int(block[i])
        i += 1
        if control < 32:
            length = control + 1
            if i + length > len(block) or k + length > len(out):
                return -1
            out[k : k + length] = block[i : i + length]
            i += length
            k += length
            continue
        length = control >> 5
        if i + (2 if length == 7 else 1) > len(block):
            return -1
        if length == 7:
            length += int(block[i])
            i += 1
        source = k - ((control & 31) << 8) - int(block[i]) - 1
        i += 1
        length += 2
        if source < 0 or k + length > len(out):
            return -1
        # Byte after byte: a copy may run into what it writes.
        for j in range(length):
            out[k + j] = out[source + j]
        k += length
    return k


def merge_clouds(parts: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float32]:
    """Returns the points (N, 4) of all LiDARs in the frame of the robot.

    parts: `path` and `robot_from_lidar` (4, 4) of each LiDAR.
    """
    clouds = []
    for part in parts:
        points = read_pcd(part['path'])
        matrix = np.asarray(part['robot_from_lidar'], np.float64)
        points[:, :3] = points[:, :3] @ matrix[:3, :3].T + matrix[:3, 3]
        clouds.append(points)
    return np.concatenate(clouds)


def read_points_of(cloud: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Returns the points (N, 4) of the entry `lidar_points` of a sample, in the frame of the robot.

    With `parts` both LiDARs are merged; without, `lidar_path` is a cloud in that frame: `.pcd`, `.bin` or `.npy`.

    Raises:
        InputError: a file cannot be read, or there are no points, but where `may_be_empty` allows that.
    """
    path, parts = str(cloud['lidar_path']), cloud.get('parts')
    if parts is None and not path.endswith('.pcd'):
        return read_cloud(path, NUM_FEATURES, bool(cloud.get('may_be_empty', False)))
    points = read_pcd(path) if parts is None else merge_clouds(parts)
    if not len(points) and not cloud.get('may_be_empty', False):
        raise InputError(f'{path} holds no points: copy the file again')
    return points


def robot_from_lidars(calibration: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Returns 'upper' and 'lower' -> robot_from_lidar (4, 4) from `calibration/defaults.yaml`, or from `lidars.yaml`.

    In the first, a LiDAR has a `translation` t and a `rotation` whose last angle is about z: points are R (p - t), as
    the toolkit has it. The second has matrices.

    Raises:
        KeyError, TypeError, ValueError: the content is another one.
    """
    found = {}
    if 'calibrated' in calibration:
        for name in ('upper', 'lower'):
            entry = calibration['calibrated'][f'lidar_{name}_to_rgb']
            angle = float(entry['rotation'][-1])
            matrix = np.eye(4)
            matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
            matrix[:3, 3] = -matrix[:3, :3] @ np.array(entry['translation'], np.float64)
            found[name] = matrix
        return found
    robot_from_upper, upper_from_lower = (
        np.array(calibration['lidar'][key], np.float64).reshape(4, 4) for key in ('upper2ego', 'lower2upper')
    )
    return {'upper': robot_from_upper, 'lower': robot_from_upper @ upper_from_lower}


@TRANSFORMS.register_module()
class LoadRobotPoints(BaseTransform):
    """Adds `points` (LiDARPoints) of both LiDARs of JRDB in the frame of the robot: x, y, z, intensity 0..1.

    A missing or damaged file and a cloud without points are InputErrors.
    """

    load_dim = NUM_FEATURES

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds `points`."""
        points = read_points_of(results['lidar_points'])
        results['points'] = LiDARPoints(points, points_dim=points.shape[1])
        return results
