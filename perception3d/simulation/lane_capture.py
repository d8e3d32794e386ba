"""What a forward camera records of a scene for lane detection: image, depth, classes, and the lanes in its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from perception3d.simulation.capture import SHADOW_RADIUS_M
from perception3d.simulation.render.camera import Exposure, Frame, cast_shadow, oversampled, render_camera
from perception3d.simulation.render.ground_labels import label_ground
from perception3d.simulation.render.night import add_glow, light_night
from perception3d.simulation.render.primitives import Primitives
from perception3d.simulation.render.raster import SKY
from perception3d.simulation.render.surfaces import Surface
from perception3d.simulation.rig import CameraMount
from perception3d.simulation.world.lane_light import emitted_light
from perception3d.simulation.world.lane_scene import LaneScene
from perception3d.simulation.world.road import LaneLine

SHADOW_M = 0.15
"""Size of a cell of the shadow map."""
LINE_M = (-3.0, 85.0)
"""Stretch of road in which lanes are annotated, metres ahead of the rear axle."""
EGO_LAMPS_M = (3.4, 0.65)
"""How far ahead of the rear axle and how high the head lamps are."""
LAMP_HALO, GLOW = 0.005, 0.10
"""Radius of a lamp's halo in radians, and its strength as a share of the lamp's light."""
NEAR_M = 0.5
"""Least depth of what is projected."""

SCENE_CLASSES = (
    'road', 'marking', 'sidewalk', 'terrain', 'building', 'fence', 'pole', 'vegetation', 'vehicle', 'person', 'sky',
)  # fmt: skip
"""Classes of an image's pixels; poles include signs and bins, fences guard rails and islands."""
_CLASS_OF = {
    Surface.TERRAIN: 'terrain', Surface.SIDEWALK: 'sidewalk', Surface.CURB: 'sidewalk', Surface.ROAD: 'road',
    Surface.MARKING: 'marking', Surface.PARKING: 'road', Surface.ISLAND: 'fence', Surface.BUILDING: 'building',
    Surface.FENCE: 'fence', Surface.VEGETATION: 'vegetation', Surface.TRUNK: 'vegetation', Surface.POLE: 'pole',
    Surface.SIGN: 'pole', Surface.FIXTURE: 'pole', Surface.OBJECT: 'vehicle',
}  # fmt: skip


@dataclass(frozen=True)
class Sampling:
    """How finely an image is rendered: `oversampling` rays a pixel along each axis, every `shrink`-th row and column.

    One of the two is 1. With shrink 2 an image has a quarter of the pixels and is enlarged to the camera's size.
    """

    oversampling: int = 1
    shrink: int = 1


@dataclass(frozen=True)
class LaneImage:
    """A recorded image: image (H, W, 3) uint8 BGR, depth_m (H, W) float32 along the optical axis, 1e6 in the sky, and
    classes (H, W) uint8, indices into `SCENE_CLASSES`.
    """

    image: np.ndarray
    depth_m: np.ndarray
    classes: np.ndarray


def record_image(lanes: LaneScene, camera: CameraMount, time_s: float, sampling: Sampling) -> LaneImage:
    """Returns what the camera sees at a time."""
    scene, light = lanes.scene, lanes.light
    solids = scene.solids(time_s)
    world_from_cam = scene.world_from_ego(time_s) @ camera.ego_from_cam()
    shape = (-(-camera.height // sampling.shrink), -(-camera.width // sampling.shrink))
    exposure = Exposure(
        world_from_cam,
        oversampled(camera.intrinsics(), 1 / sampling.shrink),
        shape,
        sampling.oversampling,
        scene.rng_seed + int(round(time_s * 1e4)),
    )
    # At night no sun casts a shadow, and a coarse map is made at once.
    step_m = 20.0 if light.night else SHADOW_M
    shadow = cast_shadow(solids, scene.light, scene.world_from_ego(time_s)[:2, 3], SHADOW_RADIUS_M, step_m)
    seen = render_camera(
        solids, scene.ground, scene.light, shadow, exposure, lambda frame: _relight(frame, lanes, solids, time_s)
    )
    fine = oversampled(exposure.intrinsics, sampling.oversampling)
    matrix = world_from_cam[:3, :3] @ np.linalg.inv(fine)
    rays = np.array([*world_from_cam[:3, 3], *matrix.ravel()])
    factor = sampling.oversampling
    classes = _classes(lanes, solids, seen.depth, seen.ids, rays)[::factor, ::factor]
    depth, image = np.ascontiguousarray(seen.depth[::factor, ::factor]), seen.image
    if sampling.shrink > 1:
        size = (shape[1] * sampling.shrink, shape[0] * sampling.shrink)
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        depth, classes = (cv2.resize(a, size, interpolation=cv2.INTER_NEAREST) for a in (depth, classes))
    height, width = camera.height, camera.width
    return LaneImage(image[:height, :width], depth[:height, :width], classes[:height, :width])


def _classes(lanes: LaneScene, solids: Primitives, depth: np.ndarray, ids: np.ndarray, rays: np.ndarray) -> np.ndarray:
    ground = lanes.scene.ground
    surface = np.zeros(ids.shape, np.uint8)
    label_ground(depth, ids, rays, ground.roads, ground.decals, surface)
    table = np.array([SCENE_CLASSES.index(_CLASS_OF[kind]) for kind in Surface], np.uint8)
    person = np.array([agent.name == 'pedestrian' for agent in lanes.scene.agents] + [False], bool)
    solid = np.where(person[solids.owner], SCENE_CLASSES.index('person'), table[solids.surface]).astype(np.uint8)
    # The last entry is read by the sky (-2 + 1 and below).
    classes = np.where(ids >= 0, np.append(solid, np.uint8(0))[np.maximum(ids, -1)], table[surface])
    classes[ids == SKY] = SCENE_CLASSES.index('sky')
    return classes.astype(np.uint8)


def _relight(frame: Frame, lanes: LaneScene, solids: Primitives, time_s: float) -> None:
    """Turns the even light of a night into that of its lamps, and adds the halos of what dazzles."""
    light = lanes.light
    strength, radius_rad, veil = light.glare
    focal = frame.intrinsics[0, 0]
    if light.night:
        pose = lanes.scene.world_from_ego(time_s)
        ahead, height = EGO_LAMPS_M
        place = pose[:3, 3] + ahead * pose[:3, 0]
        emitted = emitted_light(solids)
        light_night(frame, light.night, np.array([*place[:2], height, *pose[:2, 0]]), emitted)
        add_glow(frame.linear, _halos(frame, solids, emitted, LAMP_HALO * focal), np.zeros(3))
    if strength:
        sun = np.array(light.light.sun) / max(light.light.sun)
        ray = frame.intrinsics @ frame.world_from_cam[:3, :3].T @ np.array(light.light.to_sun)
        column, row = ray[:2] / max(ray[2], 1e-3)
        ids = frame.surfaces.ids
        inside = 0 <= row < ids.shape[0] and 0 <= column < ids.shape[1]
        hidden = inside and ids[int(row), int(column)] != SKY
        source = np.array([[column, row, radius_rad * focal, *(sun * strength * (0.4 if hidden else 1.0))]])
        add_glow(frame.linear, source, veil * sun)


def _halos(frame: Frame, solids: Primitives, emitted: np.ndarray, radius: float) -> np.ndarray:
    """Returns the sources of `add_glow` (S, 6) for the lamps that are seen."""
    lamps = np.flatnonzero(emitted[:, 0] > 0)
    cam = (solids.center[lamps] - frame.world_from_cam[:3, 3]) @ frame.world_from_cam[:3, :3]
    ahead = cam[:, 2] > NEAR_M
    lamps, cam = lamps[ahead], cam[ahead]
    pixels = cam @ frame.intrinsics.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    height, width = frame.surfaces.ids.shape
    column, row = np.round(pixels).astype(int).T
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    seen = np.zeros(len(lamps), bool)
    seen[inside] = frame.surfaces.ids[row[inside], column[inside]] == lamps[inside]
    return np.column_stack([pixels[seen], np.full(int(seen.sum()), radius), GLOW * emitted[lamps[seen]]])


@dataclass(frozen=True)
class ProjectedLine:
    """A line in an image: points (M, 2) x, y in pixels, bottom first, and what share of each is not hidden.

    depth_m (M,): along the optical axis.
    """

    line: LaneLine
    points: np.ndarray
    depth_m: np.ndarray

    def at_rows(self, rows: np.ndarray) -> np.ndarray:
        """Returns x (R,) at image rows, NaN in rows that the line does not cross."""
        y, x = self.points[::-1, 1], self.points[::-1, 0]
        return np.interp(rows, y, x, left=np.nan, right=np.nan)

    def visible_share(self, depth_m: np.ndarray) -> float:
        """Returns the share of the points inside an image that nothing hides; depth_m (H, W): of the image."""
        column, row = np.round(self.points).astype(int).T
        inside = (row >= 0) & (row < depth_m.shape[0]) & (column >= 0) & (column < depth_m.shape[1])
        if not inside.any():
            return 0.0
        seen = depth_m[row[inside], column[inside]]
        return float((seen > 0.93 * self.depth_m[inside]).mean())


def project_line(lanes: LaneScene, line: LaneLine, camera: CameraMount, time_s: float) -> ProjectedLine:
    """Returns the middle of a line in the image of a camera at a time, also where something hides it.

    Only the stretch `LINE_M` is projected, and of it the part in which the line rises in the image.
    """
    road, pose = lanes.road(), lanes.scene.world_from_ego(time_s)
    start = float(road.locate(pose[None, :2, 3])[0, 0])
    # Equal steps of the inverse distance are about equal steps in the image.
    ahead = np.concatenate([np.arange(LINE_M[0], 4.0, 0.1), 1.0 / np.linspace(1 / 4.0, 1 / LINE_M[1], 400)])
    places = road.pose(start + ahead, line.offset)
    world = np.column_stack([places[:, :2], np.zeros(len(places))])
    world_from_cam = pose @ camera.ego_from_cam()
    cam = (world - world_from_cam[:3, 3]) @ world_from_cam[:3, :3]
    cam = cam[cam[:, 2] > NEAR_M]
    pixels = cam @ camera.intrinsics().T
    points = pixels[:, :2] / pixels[:, 2:]
    falling = np.flatnonzero(np.diff(points[:, 1]) >= 0)
    end = int(falling[0]) + 1 if len(falling) else len(points)
    return ProjectedLine(line, points[:end], cam[:end, 2])


@dataclass(frozen=True)
class SampledLane:
    """A lane of an image: its slot, x (R,) in pixels at given rows, NaN in rows without it, and the projected line."""

    slot: int
    x: np.ndarray
    projected: ProjectedLine


def sample_lanes(
    lanes: LaneScene, camera: CameraMount, time_s: float, rows: np.ndarray, num_slots: int
) -> list[SampledLane]:
    """Returns the lanes of an image left to right, those with points inside it in two rows or more.

    Slots num_slots / 2 - 1 and num_slots / 2 are the borders of the ego lane. A lane goes on to the first row in which
    it is outside the image.
    """
    left, right = lanes.lines(num_slots // 2)
    numbered = [(num_slots // 2 - 1 - k, line) for k, line in enumerate(left)][::-1]
    numbered += [(num_slots // 2 + k, line) for k, line in enumerate(right)]
    found = []
    for slot, line in numbered:
        projected = project_line(lanes, line, camera, time_s)
        x = projected.at_rows(rows)
        inside = np.flatnonzero((x >= 0) & (x < camera.width) & (rows < camera.height))
        if len(inside) >= 2:
            x[: max(inside[0] - 1, 0)] = np.nan
            x[inside[-1] + 2 :] = np.nan
            found.append(SampledLane(slot, x, projected))
    return found
