"""The labels of a frame as an annotator of KITTI's object benchmark writes them: types, boxes, occlusion, `DontCare`.

Types: the readme of the KITTI object development kit and, for what counts as `Misc`, Geiger et al., "Vision meets
Robotics", IJRR 2013 (trailers). Buses, construction vehicles and ridden motorcycles are `Misc` by our own choice;
construction workers are `Pedestrian`. Two-wheelers without a rider, cones and barriers have no label, as in KITTI.
There are no sitting people in this world, so there is no `Person_sitting`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.formats.kitti.files import Objects, camera_corners, objects_from_table, observation_angle
from perception3d.geometry.frustum import NEAR_M, near_plane_crossings
from perception3d.simulation.world.agents import Body

TYPES = {
    'car': 'Car',
    'van': 'Van',
    'truck': 'Truck',
    'pedestrian': 'Pedestrian',
    'tram': 'Tram',
    'bus': 'Misc',
    'trailer': 'Misc',
    'construction_vehicle': 'Misc',
}
RIDDEN_TYPES = {'bicycle': 'Cyclist', 'motorcycle': 'Misc'}

OCCLUSION_SHARES = (0.85, 0.5, 0.15)
"""Least visible share of the pixels that an object would cover in the image, for occlusion 0, 1 and 2; else it is 3.

KITTI gives no numbers ("fully visible", "partly occluded", "largely occluded", "unknown"): these are ours.
"""

FAR_M, LEAST_HEIGHT, LEAST_SHARE, LEAST_POINTS = 80.0, 10.0, 0.05, 3
"""Objects that are farther, lower in the image (pixels), less visible or have fewer points are `DontCare`.

An object without a visible pixel and without a point is left out: an annotator could not know of it.
"""

DONT_CARE_3D = (-1.0, -1.0, -1.0, -1000.0, -1000.0, -1000.0, -10.0)
_RING = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
_EDGES = np.concatenate([_RING, _RING + 4, np.stack([np.arange(4), np.arange(4) + 4], 1)])


@dataclass(frozen=True)
class Observation:
    """The A agents as the sensors observed them.

    boxes (A, 7): x, y, z of the center, length, width, height, yaw in the world frame; pixels (A, 2): what each would
    cover if it were alone in the image, and what is visible of it; points (A,): in the box.
    """

    boxes: npt.NDArray[Any]
    pixels: npt.NDArray[Any]
    points: npt.NDArray[Any]

    def select(self, rows: npt.NDArray[Any]) -> Observation:
        """Returns the agents of the rows (indices or mask)."""
        return Observation(self.boxes[rows], self.pixels[rows], self.points[rows])


def kitti_type(body: Body) -> str:
    """Returns KITTI's type of an object, '' for one that KITTI does not label."""
    return (RIDDEN_TYPES if body.rider else TYPES).get(body.name, '')


def occlusion_levels(shares: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns KITTI's occlusion 0..3 of visible shares (N,); see `OCCLUSION_SHARES`."""
    levels: npt.NDArray[Any] = (np.asarray(shares)[:, None] < OCCLUSION_SHARES).sum(1)
    return levels


def project_boxes(corners: npt.NDArray[Any], img_from_cam: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the rectangles (N, 4) x1 y1 x2 y2 in pixels round boxes, given by corners (N, 8, 3) in the camera frame.

    img_from_cam (3, 4). What lies behind the camera is cut off; a box that lies there altogether gives NaN.
    """
    ends = corners[:, _EDGES]
    other = ends[:, :, ::-1]
    behind, other_behind = (each[..., 2:] < NEAR_M for each in (ends, other))
    seen = ~(behind & other_behind)
    cuts, _ = near_plane_crossings(ends, other)
    spots = np.where(behind, cuts, ends)
    pixels = spots @ img_from_cam[:, :3].T + img_from_cam[:, 3]
    pixels = pixels[..., :2] / np.where(seen, pixels[..., 2:], 1.0)
    low = np.where(seen, pixels, np.inf).min((1, 2))
    high = np.where(seen, pixels, -np.inf).max((1, 2))
    rects = np.concatenate([low, high], 1)
    return np.where(np.isfinite(rects), rects, np.nan)


def camera_fields(boxes: npt.NDArray[Any], cam_from_world: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns h, w, l, x, y, z, rotation_y (N, 7), rounded to two decimals as in a label file, of world boxes (N, 7).

    The heading is rotated into the camera frame as a vector: the axes of LiDAR and camera need not be parallel.
    """
    bottom = boxes[:, :3] - np.outer(boxes[:, 5] / 2, [0, 0, 1])
    places = bottom @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    heading = np.column_stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6]), np.zeros(len(boxes))])
    heading = heading @ cam_from_world[:3, :3].T
    rotation_y = np.arctan2(-heading[:, 2], heading[:, 0])
    return np.round(np.column_stack([boxes[:, [5, 4, 3]], places, rotation_y]), 2)


def make_labels(
    names: list[str],
    observed: Observation,
    cam_from_world: npt.NDArray[Any],
    img_from_cam: npt.NDArray[Any],
    size: tuple[int, int],
) -> Objects:
    """Returns the objects of one frame, `DontCare` last.

    names: KITTI's type of each agent, '' for none; cam_from_world (4, 4): the rectified camera 0; img_from_cam (3, 4):
    pixels of the labelled camera from there; size: height and width of its image in pixels. Rectangles are those of the
    rounded boxes, cut to the image.
    """
    labelled = (observed.pixels[:, 0] > 0) & np.array([name != '' for name in names], bool)
    labelled &= (observed.pixels[:, 1] > 0) | (observed.points > 0)
    rows = np.flatnonzero(labelled)
    seen, types = observed.select(rows), np.array(names, 'U32')[rows]
    fields = camera_fields(seen.boxes, cam_from_world)
    whole = project_boxes(camera_corners(fields[:, :3], fields[:, 3:6], fields[:, 6]), img_from_cam)
    limits = np.array([size[1], size[0], size[1], size[0]]) - 1.0
    inside = np.clip(whole, 0.0, limits)
    area = np.prod(inside[:, 2:] - inside[:, :2], 1)
    truncated = np.clip(1.0 - area / np.prod(whole[:, 2:] - whole[:, :2], 1), 0.0, 1.0)
    share = seen.pixels[:, 1] / seen.pixels[:, 0]
    table = np.column_stack(
        [truncated, occlusion_levels(share), observation_angle(fields[:, 3:6], fields[:, 6]), inside, fields]
    )
    ignored = (fields[:, 5] > FAR_M) | (inside[:, 3] - inside[:, 1] < LEAST_HEIGHT)
    ignored |= (share < LEAST_SHARE) | (seen.points < LEAST_POINTS)
    table[ignored, :3] = -1.0, -1.0, -10.0
    table[ignored, 7:] = DONT_CARE_3D
    types[ignored] = 'DontCare'
    order = np.flatnonzero(area > 0)
    order = order[np.argsort(ignored[order], kind='stable')]
    return objects_from_table(list(types[order]), table[order], scored=False)
