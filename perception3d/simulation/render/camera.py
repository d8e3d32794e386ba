"""A pinhole camera: depth, identities and colours of a set of solids, and the shadows that they cast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perception3d.simulation.render.ground import Ground
from perception3d.simulation.render.primitives import Primitives
from perception3d.simulation.render.raster import (
    FAR_M,
    SKY,
    View,
    lay_ground,
    parallel_view,
    perspective_view,
    rasterize,
)
from perception3d.simulation.render.sensor import SensorResponse, apply_sensor_response, tone_curve
from perception3d.simulation.render.shade import (
    Light,
    Rays,
    Setting,
    Shadow,
    ShadowFrame,
    Surfaces,
    as_triple,
    pack_setting,
    shade,
)
from perception3d.simulation.render.table import solid_table

MAX_DEPTH_M = 400.0
_CURVE = tone_curve()


@dataclass(frozen=True)
class CameraImage:
    """What one camera saw.

    image (H, W, 3) uint8 BGR; depth (H f, W f) float32 metres along the optical axis (1e6 in the sky) and ids (H f,
    W f) int32 (index of the solid, -1 ground, -2 sky) at the oversampling factor f; view: the solids in that image.
    """

    image: np.ndarray
    depth: np.ndarray
    ids: np.ndarray
    view: View


def oversampled(k: np.ndarray, factor: float) -> np.ndarray:
    """Returns the intrinsics (3, 3) of the same camera with `factor` times the rows and columns."""
    fine = k.astype(np.float64).copy()
    fine[:2] *= factor
    fine[:2, 2] += 0.5 * (factor - 1)
    return fine


def trace(
    solids: Primitives, world_from_cam: np.ndarray, k: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, View]:
    """Returns depth (H, W) float32, ids (H, W) int32 and the prepared solids of a pinhole image without shading."""
    view = perspective_view(solids, world_from_cam, k, height, width, MAX_DEPTH_M)
    depth = np.empty((height, width), np.float32)
    ids = np.empty((height, width), np.int32)
    rays = world_from_cam[:3, :3] @ np.linalg.inv(k)
    lay_ground(depth, ids, world_from_cam[2, 3], rays[2, 2], rays[2, 0], rays[2, 1], MAX_DEPTH_M)
    rasterize(view, depth, ids)
    return depth, ids, view


def cast_shadow(solids: Primitives, light: Light, center: np.ndarray, radius_m: float, step_m: float) -> Shadow:
    """Returns the sun's depth image of the square of half width `radius_m` around `center` (2,) on the ground."""
    along = -np.array(light.to_sun)
    axis_u = np.array([light.to_sun[1], -light.to_sun[0], 0.0])
    axis_u = axis_u / np.linalg.norm(axis_u) if np.linalg.norm(axis_u) > 1e-6 else np.array([1.0, 0, 0])
    axis_v = np.cross(along, axis_u)
    extent_v = radius_m * abs(light.to_sun[2]) + 3.0
    corner = np.array([*center, 0.0]) - radius_m * axis_u - extent_v * axis_v
    shape = (int(2 * extent_v / step_m), int(2 * radius_m / step_m))
    # The rays start far up towards the sun, so that no building is behind their start.
    corner = corner - 400.0 * along
    view = parallel_view(solids, corner, axis_u * step_m, axis_v * step_m, along, shape)
    depth = np.full(shape, FAR_M, np.float32)
    rasterize(view, depth, np.full(shape, SKY, np.int32))
    frame = ShadowFrame(as_triple(corner), as_triple(axis_u), as_triple(axis_v), as_triple(along), float(step_m))
    return Shadow(depth, frame)


@dataclass(frozen=True)
class Exposure:
    """Pose, optics and sampling of one image.

    world_from_cam (4, 4): camera x right, y down, z forward; intrinsics (3, 3) with pixel centres at integer
    coordinates; size: height and width in pixels; oversampling: rays per pixel along each axis; noise_seed: of the
    sensor noise.
    """

    world_from_cam: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]
    oversampling: int
    noise_seed: int


@dataclass(frozen=True)
class Frame:
    """An image before it meets the sensor, at the oversampling factor f.

    linear (H f, W f, 3) float32: linear light, RGB; surfaces: depth and identity of the same pixels; rays: through
    them; intrinsics (3, 3) and world_from_cam (4, 4) of these pixels.
    """

    linear: np.ndarray
    surfaces: Surfaces
    rays: Rays
    intrinsics: np.ndarray
    world_from_cam: np.ndarray


def render_camera(
    solids: Primitives,
    ground: Ground,
    light: Light,
    shadow: Shadow,
    exposure: Exposure,
    relight: Callable[[Frame], None] | None = None,
) -> CameraImage:
    """Renders what a camera sees.

    shadow: see `cast_shadow`. relight: changes the linear light in place before the sensor records it.
    """
    (height, width), factor = exposure.size, exposure.oversampling
    world_from_cam, fine = exposure.world_from_cam, oversampled(exposure.intrinsics, factor)
    depth, ids, view = trace(solids, world_from_cam, fine, height * factor, width * factor)
    linear = np.empty((*depth.shape, 3), np.float32)
    matrix = world_from_cam[:3, :3] @ np.linalg.inv(fine)
    rays = Rays(tuple(world_from_cam[:3, 3]), tuple(matrix.ravel()), 1.0 / fine[0, 0])
    numbers = pack_setting(Setting(ground.colors, light, shadow.frame, rays))
    shade(Surfaces(depth, ids), solid_table(solids), ground, shadow, numbers, linear)
    if relight:
        relight(Frame(linear, Surfaces(depth, ids), rays, fine, world_from_cam))
    image = np.empty((height, width, 3), np.uint8)
    apply_sensor_response(
        linear, SensorResponse(factor, light.exposure, light.noise, exposure.noise_seed), _CURVE, image
    )
    return CameraImage(image, depth, ids, view)
