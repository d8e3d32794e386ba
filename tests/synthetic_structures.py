"""A made-up frame that carries all five structures: boxes, point labels, lanes, heatmaps and tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perception3d.structures.boxes import Boxes
from perception3d.structures.frame import LidarAxes, SensorFrame
from perception3d.structures.heatmaps import Heatmaps
from perception3d.structures.lanes import Lanes
from perception3d.structures.point_labels import PointLabels
from perception3d.structures.tracks import Tracks

BOX_CLASSES = ('car', 'pedestrian')
POINT_CLASSES = ('road', 'vegetation', 'building')
LANE_CLASSES = ('solid line', 'dashed line')
IMAGE_HW = (360, 640)
LIDAR_HEIGHT_M = 1.8


def front_camera() -> np.ndarray:
    """A level camera at the LiDAR that looks along x: u = 320 - 400 y / x, v = 150 - 400 z / x."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[400, 0, 320], [0, 400, 150], [0, 0, 1.0]]) @ [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    return matrix


def cloud() -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) of a road between hedges with a house ahead on the left, and their labels."""
    rng = np.random.default_rng(0)
    road = np.column_stack([rng.uniform(-15, 45, 5000), rng.uniform(-6, 6, 5000), np.full(5000, -LIDAR_HEIGHT_M)])
    side = np.where(rng.random(2500) < 0.5, -1, 1)
    low = rng.uniform(-LIDAR_HEIGHT_M, -0.3, 2500)
    hedges = np.column_stack([rng.uniform(-15, 45, 2500), side * rng.uniform(7, 8.5, 2500), low])
    house = np.column_stack([rng.uniform(18, 30, 2000), np.full(2000, 11.0), rng.uniform(-LIDAR_HEIGHT_M, 4, 2000)])
    return np.concatenate([road, hedges, house]), np.repeat([0, 1, 2], [5000, 2500, 2000])


def frame() -> SensorFrame:
    """A grey street below a lighter sky, and the cloud."""
    image = np.full((*IMAGE_HW, 3), 70, np.uint8)
    image[:150] = (120, 105, 95)
    return SensorFrame({'CAM_FRONT': image}, {'CAM_FRONT': front_camera()}, cloud()[0], LidarAxes((1, 0)))


def boxes() -> Boxes:
    """Two cars and a person on the pavement, with velocities of which one is not known."""
    ground = -LIDAR_HEIGHT_M
    rows = [
        [14.0, 2.0, ground, 4.2, 1.8, 1.6, 0.05, 6.0, 0.2],
        [26.0, -2.2, ground, 4.4, 1.9, 1.5, np.pi, -8.0, 0.0],
        [12.0, -5.5, ground, 0.7, 0.6, 1.75, 1.2, np.nan, np.nan],
    ]
    return Boxes(np.array(rows), np.array([0, 0, 1]), np.array([0.91, 0.66, 0.5]), classes=BOX_CLASSES)


def lanes() -> Lanes:
    """Three lines on the road, the middle one dashed, in the LiDAR frame."""
    along = np.linspace(4, 45, 12)
    lines = tuple(np.column_stack([along, y + 0.0009 * along**2, 0 * along - LIDAR_HEIGHT_M]) for y in (5.5, 0, -4.5))
    return Lanes(lines, np.array([0, 1, 0]), classes=LANE_CLASSES)


def point_labels() -> PointLabels:
    """A class for each point of the cloud."""
    return PointLabels(cloud()[1], classes=POINT_CLASSES)


def heatmaps() -> Heatmaps:
    """Bumps at the cars and the person, in cells of half a metre."""
    x, y = np.mgrid[0:100, 0:48] / 2.0 + 0.25
    bumps = [np.exp(-((x - a) ** 2 + (y - 12 - b) ** 2) / 2.0) for a, b in ((14.0, 2.0), (26.0, -2.2), (12.0, -5.5))]
    values = np.stack([np.maximum(bumps[0], bumps[1]), bumps[2]])
    return Heatmaps(values.astype(np.float32), (0.0, -12.0, 50.0, 12.0), classes=BOX_CLASSES)


def tracks() -> Tracks:
    """The objects of `boxes` as a tracker sees them: one car for six frames, the person for two, a car just seen."""
    now = boxes()
    now = replace(now, boxes=now.boxes + [0.6, 0.3, 0, 0, 0, 0, 0.04, 0, 0])
    history = (
        np.column_stack([np.linspace(2, 12, 6), np.linspace(1.0, 1.9, 6), np.full(6, -LIDAR_HEIGHT_M)]),
        np.zeros((0, 3)),
        np.array([[10.6, -6.4, -LIDAR_HEIGHT_M], [11.3, -6.0, -LIDAR_HEIGHT_M]]),
    )
    return Tracks(now, np.array([7, 12, 3]), history)


ALL = (point_labels, heatmaps, lanes, boxes, tracks)
