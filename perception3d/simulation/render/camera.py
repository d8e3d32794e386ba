"""A pinhole camera that looks at a set of solids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception3d.simulation.render.develop import develop, tone_curve
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
from perception3d.simulation.render.shade import Light, Shadow, ShadowFrame, pack_numbers, shade
from perception3d.simulation.render.table import solid_table

MAX_DEPTH_M = 400.0
_CURVE = tone_curve()


@dataclass(frozen=True)
class Picture:
    """What one camera saw.

    image (H, W, 3) uint8 BGR; depth (H f, W f) float32 metres along the optical axis (1e6 in the sky) and ids (H f,
    W f) int32 (index of the solid, -1 ground, -2 sky) at the oversampling factor f; view: the solids in that image.
    """

    image: np.ndarray
    depth: np.ndarray
    ids: np.ndarray
    view: View


def oversampled(k: np.ndarray, factor: int) -> np.ndarray:
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


def cast_shadow(solids: Primitives, light: Light, middle: np.ndarray, reach_m: float, step_m: float) -> Shadow:
    """Returns the sun's depth image of the square of half width `reach_m` round `middle` (2,) on the ground."""
    along = -np.array(light.to_sun)
    axis_u = np.array([light.to_sun[1], -light.to_sun[0], 0.0])
    axis_u = axis_u / np.linalg.norm(axis_u) if np.linalg.norm(axis_u) > 1e-6 else np.array([1.0, 0, 0])
    axis_v = np.cross(along, axis_u)
    reach_v = reach_m * abs(light.to_sun[2]) + 3.0
    corner = np.array([*middle, 0.0]) - reach_m * axis_u - reach_v * axis_v
    shape = (int(2 * reach_v / step_m), int(2 * reach_m / step_m))
    # The rays start far up towards the sun, so that every building lies ahead of them.
    corner = corner - 400.0 * along
    view = parallel_view(solids, corner, axis_u * step_m, axis_v * step_m, along, shape)
    depth = np.full(shape, FAR_M, np.float32)
    rasterize(view, depth, np.full(shape, SKY, np.int32))
    vectors = [tuple(map(float, vector)) for vector in (corner, axis_u, axis_v, along)]
    return Shadow(depth, ShadowFrame(*vectors, float(step_m)))


def photograph(
    solids: Primitives,
    ground: Ground,
    light: Light,
    shadow: Shadow,
    world_from_cam: np.ndarray,
    k: np.ndarray,
    size: tuple[int, int],
    factor: int,
    noise_seed: int,
) -> Picture:
    """Renders an image of `size` (height, width) with `factor` x `factor` rays a pixel.

    `world_from_cam` (4, 4): camera x right, y down, z forward; `k` (3, 3) with pixel centres at integer coordinates.
    """
    height, width = size
    fine = oversampled(k, factor)
    depth, ids, view = trace(solids, world_from_cam, fine, height * factor, width * factor)
    linear = np.empty((*depth.shape, 3), np.float32)
    rays = world_from_cam[:3, :3] @ np.linalg.inv(fine)
    numbers = pack_numbers(ground.soil, light, shadow.frame, tuple(world_from_cam[:3, 3]), rays)
    table = solid_table(solids)
    shade(depth, ids, table, ground.roads, ground.decals, shadow.depth, numbers, 1.0 / fine[0, 0], linear)
    image = np.empty((height, width, 3), np.uint8)
    develop(linear, factor, light.exposure, light.noise, noise_seed, _CURVE, image)
    return Picture(image, depth, ids, view)
