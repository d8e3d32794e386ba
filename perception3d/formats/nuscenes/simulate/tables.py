"""Fixed tables, tokens and poses of the nuScenes schema."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

CATEGORIES = {
    'car': 'vehicle.car',
    'truck': 'vehicle.truck',
    'trailer': 'vehicle.trailer',
    'bus': 'vehicle.bus.rigid',
    'construction_vehicle': 'vehicle.construction',
    'bicycle': 'vehicle.bicycle',
    'motorcycle': 'vehicle.motorcycle',
    'pedestrian': 'human.pedestrian.adult',
    'worker': 'human.pedestrian.construction_worker',
    'traffic_cone': 'movable_object.trafficcone',
    'barrier': 'movable_object.barrier',
}
ATTRIBUTES = (
    'vehicle.moving',
    'vehicle.stopped',
    'vehicle.parked',
    'cycle.with_rider',
    'cycle.without_rider',
    'pedestrian.sitting_lying_down',
    'pedestrian.standing',
    'pedestrian.moving',
)
VISIBILITIES = {'1': (0, 40), '2': (40, 60), '3': (60, 80), '4': (80, 100)}


def token(*parts: object) -> str:
    """Returns a token of 32 hexadecimal digits that depends on nothing but `parts`."""
    return hashlib.md5('/'.join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def category_token(name: str) -> str:
    """Returns the token of a class of the world ('worker' for construction workers)."""
    return token('category', CATEGORIES[name])


def attribute_token(name: str) -> str:
    """Returns the token of an attribute."""
    return token('attribute', name)


def sensor_token(channel: str) -> str:
    """Returns the token of a sensor."""
    return token('sensor', channel)


def fixed_tables(channels: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Returns the tables that do not depend on the scenes: category, attribute, visibility, sensor."""
    return {
        'category': [
            {'token': category_token(k), 'name': v, 'description': f'{k} of the built-in world', 'index': n + 1}
            for n, (k, v) in enumerate(CATEGORIES.items())
        ],
        'attribute': [{'token': attribute_token(a), 'name': a, 'description': ''} for a in ATTRIBUTES],
        'visibility': [
            {'token': k, 'level': f'v{low}-{high}', 'description': f'{low} to {high} % of the object are visible'}
            for k, (low, high) in VISIBILITIES.items()
        ],
        'sensor': [
            {'token': sensor_token(c), 'channel': c, 'modality': 'lidar' if c.startswith('LIDAR') else 'camera'}
            for c in channels
        ],
    }


def visibility_token(covered: float, visible: float) -> str:
    """Returns the token of the visible share of an object; an object outside of all images counts as hidden."""
    share = 100 * visible / covered if covered > 0 else 0
    for key, (_, high) in VISIBILITIES.items():
        if share < high:
            return key
    return '4'


def attribute_name(name: str, speed: float, parked: bool, rider: bool) -> str:
    """Returns the attribute of an object of class `name` at a speed in m/s, '' for classes without attributes."""
    if name in ('barrier', 'traffic_cone'):
        return ''
    if name in ('bicycle', 'motorcycle'):
        return 'cycle.with_rider' if rider else 'cycle.without_rider'
    if name == 'pedestrian':
        return 'pedestrian.moving' if speed > 0.3 else 'pedestrian.standing'
    if parked:
        return 'vehicle.parked'
    return 'vehicle.moving' if speed > 0.3 else 'vehicle.stopped'


def quaternion(rotation: npt.NDArray[Any]) -> list[float]:
    """Returns w, x, y, z of a rotation matrix (3, 3)."""
    # scipy's Rotation differs in the last digit for every third matrix, and with it the bytes of the tables.
    r = rotation
    squares = np.array([r.trace(), r[0, 0], r[1, 1], r[2, 2]])
    k = int(np.argmax(squares))
    if k == 0:
        q = [1 + r.trace(), r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]
    else:
        i, j, m = k - 1, k % 3, (k + 1) % 3
        q = [r[m, j] - r[j, m], 0.0, 0.0, 0.0]
        q[1 + i] = 1 + r[i, i] - r[j, j] - r[m, m]
        q[1 + j] = r[j, i] + r[i, j]
        q[1 + m] = r[m, i] + r[i, m]
    q = np.array(q) / np.linalg.norm(q)
    return [float(v) for v in (q if q[0] >= 0 else -q)]


def yaw_quaternion(yaw_rad: float) -> list[float]:
    """Returns w, x, y, z of a rotation about z."""
    return quaternion(
        np.array([[np.cos(yaw_rad), -np.sin(yaw_rad), 0], [np.sin(yaw_rad), np.cos(yaw_rad), 0], [0, 0, 1.0]])
    )
