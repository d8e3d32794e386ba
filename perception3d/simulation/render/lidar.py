"""A spinning laser scanner: one column of beams at a time, each from where the moving sensor is at that moment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import prange

from perception3d.simulation.render.ground import REFLECTIVITY as GROUND_REFLECTIVITY
from perception3d.simulation.render.ground import Ground, Soil, ground_kind
from perception3d.simulation.render.hits import hit, unit_normal
from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.materials import REFLECTIVITY
from perception3d.simulation.render.primitives import Primitives
from perception3d.simulation.render.table import AXES, CENTER, HALF, KIND, MATERIAL, TAPER, solid_table


@dataclass(frozen=True)
class Spinner:
    """A scanner's geometry: beam elevations (lowest first) and azimuth steps of one turn.

    The head turns clockwise seen from above and ends its turn at `last_azimuth_rad` in the sensor frame (x right, y
    forward, z up). Ranges outside min_range_m..max_range_m give no point.
    """

    elevations_rad: tuple[float, ...]
    columns: int
    period_s: float
    last_azimuth_rad: float
    min_range_m: float = 1.0
    max_range_m: float = 105.0
    range_noise_m: float = 0.02
    drop_share: float = 0.015

    def column_offsets_s(self) -> np.ndarray:
        """Returns when each column fires, (columns,) seconds relative to the end of the turn (all <= 0)."""
        return (np.arange(1, self.columns + 1) / self.columns - 1.0) * self.period_s

    def azimuths_rad(self) -> np.ndarray:
        """Returns the direction of each column in the sensor frame, (columns,) radians from x towards y."""
        return self.last_azimuth_rad - 2 * np.pi * (np.arange(1, self.columns + 1) / self.columns - 1.0)


HDL32E = Spinner(
    elevations_rad=tuple(np.deg2rad(-30.67 + 41.34 / 31 * k) for k in range(32)),
    columns=1090,
    period_s=0.05,
    last_azimuth_rad=float(np.deg2rad(190.0)),
)
"""The scanner of nuScenes: 32 beams from -30.67 to 10.67 degrees, 20 turns a second."""


@dataclass(frozen=True)
class Sweep:
    """Points (N, 5) float32: x, y, z in metres in the sensor frame at the end of the turn, intensity 0..255, ring.

    solid (N,) int32: index of the solid that was hit, -1 for the ground.
    """

    points: np.ndarray
    solid: np.ndarray


@kernel(inline='always')
def _beam(turn, elevation, azimuth):
    """World direction of a beam of a sensor whose rotation is `turn`."""
    x, y, z = math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)
    return (
        turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z,
        turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z,
        turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z,
    )


@kernel(inline='always')
def _into_unit(solids, i, x, y, z):
    """Vector x, y, z of the world in the unit frame of solid i."""
    return (
        (solids[i, AXES] * x + solids[i, AXES + 3] * y + solids[i, AXES + 6] * z) / solids[i, HALF],
        (solids[i, AXES + 1] * x + solids[i, AXES + 4] * y + solids[i, AXES + 7] * z) / solids[i, HALF + 1],
        (solids[i, AXES + 2] * x + solids[i, AXES + 5] * y + solids[i, AXES + 8] * z) / solids[i, HALF + 2],
    )


@kernel()
def _list_near(solids, radius, shift_s, velocity, pose, azimuth, limit, near):
    """Fills `near` with the solids that a column's upright half plane comes close to; returns how many."""
    fx = pose[0, 0] * math.cos(azimuth) + pose[0, 1] * math.sin(azimuth)
    fy = pose[1, 0] * math.cos(azimuth) + pose[1, 1] * math.sin(azimuth)
    flat = math.sqrt(fx * fx + fy * fy)
    fx, fy = fx / flat, fy / flat
    count = 0
    for i in range(len(solids)):
        px = solids[i, CENTER] + velocity[i, 0] * shift_s - pose[0, 3]
        py = solids[i, CENTER + 1] + velocity[i, 1] * shift_s - pose[1, 3]
        ahead = px * fx + py * fy
        # Beams lean out of the upright plane by the sensor's tilt, a few percent of the distance.
        slack = radius[i] + 0.03 * abs(ahead)
        if abs(px * fy - py * fx) <= slack and -slack <= ahead <= limit + slack:
            near[count] = i
            count += 1
    return count


@kernel()
def _scan_column(c, beams, azimuth, shift_s, pose, solids, radius, velocity, limit, near, rays, ranges, ids):
    """Fills row c of ranges and ids, see `_scan`; near (S,) and rays (beams, 3) are scratch space."""
    count = _list_near(solids, radius, shift_s, velocity, pose, azimuth, limit, near)
    for k in range(len(beams)):
        rays[k, 0], rays[k, 1], rays[k, 2] = _beam(pose, beams[k], azimuth)
        on_ground = rays[k, 2] < 0.0 and -pose[2, 3] / rays[k, 2] < limit
        ranges[c, k], ids[c, k] = -pose[2, 3] / rays[k, 2] if on_ground else limit, -1 if on_ground else -2
    for n in range(count):
        i = near[n]
        wx = pose[0, 3] - solids[i, CENTER] - velocity[i, 0] * shift_s
        wy = pose[1, 3] - solids[i, CENTER + 1] - velocity[i, 1] * shift_s
        wz = pose[2, 3] - solids[i, CENTER + 2]
        ox, oy, oz = _into_unit(solids, i, wx, wy, wz)
        kind = int(solids[i, KIND])
        apart = math.sqrt(wx * wx + wy * wy)
        # A beam that passes above or below the solid's ball, tilt included, need not be tested.
        height, spread = math.atan2(-wz, apart), 9.0
        if apart > radius[i]:
            spread = 0.06 + 1.6 * radius[i] / apart
        for k in range(len(beams)):
            if abs(height - beams[k]) > spread:
                continue
            ux, uy, uz = _into_unit(solids, i, rays[k, 0], rays[k, 1], rays[k, 2])
            t = hit(kind, ox, oy, oz, ux, uy, uz, solids[i, TAPER], solids[i, TAPER + 1], solids[i, TAPER + 2])
            if 0.05 < t < ranges[c, k]:
                ranges[c, k] = t
                ids[c, k] = i


@kernel(parallel=True)
def _scan(beams, azimuths, offsets, poses, solids, radius, velocity, limit, ranges, ids):
    """Fills ranges (columns, beams) float64 and ids (columns, beams) int32: -2 nothing, -1 ground, else the solid."""
    for c in prange(len(azimuths)):
        near, rays = np.empty(len(solids), np.int32), np.empty((len(beams), 3))
        # Cast, else it is compiled twice; see `shade`.
        _scan_column(
            np.int64(c), beams, azimuths[c], offsets[c], poses[c], solids, radius, velocity, limit, near, rays, ranges,
            ids,
        )  # fmt: skip


@kernel()
def _incidence(solids, i, x, y, z, dx, dy, dz):
    """Cosine between a ray along d and the surface normal of solid i at the point p - centre = (x, y, z)."""
    ux, uy, uz = _into_unit(solids, i, x, y, z)
    kind = int(solids[i, KIND])
    u, v, w = unit_normal(kind, ux, uy, uz, solids[i, TAPER], solids[i, TAPER + 1], solids[i, TAPER + 2])
    u, v, w = u / solids[i, HALF], v / solids[i, HALF + 1], w / solids[i, HALF + 2]
    along = dx * (solids[i, AXES] * u + solids[i, AXES + 1] * v + solids[i, AXES + 2] * w)
    along += dy * (solids[i, AXES + 3] * u + solids[i, AXES + 4] * v + solids[i, AXES + 5] * w)
    along += dz * (solids[i, AXES + 6] * u + solids[i, AXES + 7] * v + solids[i, AXES + 8] * w)
    return abs(along) / math.sqrt(u * u + v * v + w * w)


@kernel(parallel=True)
def _answer(
    beams, azimuths, offsets, poses, solids, velocity, roads, decals, colors, ranges, ids, table, ground_table,
    strength, cosine,
):  # fmt: skip
    """Fills strength and cosine (columns, beams): reflectivity and cosine of incidence where a ray met something."""
    for c in prange(len(azimuths)):
        pose = poses[c]
        soil = Soil((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), colors[0], int(colors[1]))
        for k in range(len(beams)):
            i, t = ids[c, k], ranges[c, k]
            if i == -2:
                continue
            dx, dy, dz = _beam(pose, beams[k], azimuths[c])
            px, py, pz = pose[0, 3] + t * dx, pose[1, 3] + t * dy, pose[2, 3] + t * dz
            if i == -1:
                strength[c, k] = ground_table[ground_kind(roads, decals, soil, px, py)]
                cosine[c, k] = -dz
                continue
            px -= solids[i, CENTER] + velocity[i, 0] * offsets[c]
            py -= solids[i, CENTER + 1] + velocity[i, 1] * offsets[c]
            strength[c, k] = table[int(solids[i, MATERIAL])]
            cosine[c, k] = _incidence(solids, i, px, py, pz - solids[i, CENTER + 2], dx, dy, dz)


def scan(
    solids: Primitives,
    solid_velocity: np.ndarray,
    ground: Ground,
    spinner: Spinner,
    world_from_lidar: np.ndarray,
    rng: np.random.Generator,
) -> Sweep:
    """Returns one turn of the scanner.

    solids: as they are at the end of the turn; solid_velocity (S, 2) m/s takes them back to the moment when a column
    fires. world_from_lidar (columns, 4, 4): the sensor's pose at every column's time. Each point is measured at its
    own time and pose; all are then expressed in the sensor frame at the end of the turn, so that what stands still
    is sharp and what moves is displaced by its motion, as in nuScenes. Rays without an echo give no point.
    """
    beams = np.array(spinner.elevations_rad)
    azimuths, offsets = spinner.azimuths_rad(), spinner.column_offsets_s()
    table = solid_table(solids).astype(np.float64)
    radius = np.linalg.norm(table[:, HALF : HALF + 3], axis=1)
    shape = (len(azimuths), len(beams))
    ranges, ids = np.empty(shape), np.empty(shape, np.int32)
    _scan(
        beams, azimuths, offsets, world_from_lidar, table, radius, solid_velocity, spinner.max_range_m, ranges, ids
    )  # fmt: skip
    strength, cosine = np.zeros(shape), np.ones(shape)
    band = np.array([ground.soil.curb_band, ground.soil.seed], np.float64)
    _answer(
        beams, azimuths, offsets, world_from_lidar, table, solid_velocity, ground.roads, ground.decals, band, ranges,
        ids, REFLECTIVITY, GROUND_REFLECTIVITY, strength, cosine,
    )  # fmt: skip
    keep = _echoes(rng, spinner, ranges, strength, cosine) & (ids > -2)
    column, ring = np.nonzero(keep)
    distance = ranges[keep]
    points = np.empty((len(distance), 5), np.float32)
    measured = distance + spinner.range_noise_m * rng.normal(size=len(distance))
    points[:, :3] = _positions(beams[ring], azimuths[column], measured, world_from_lidar, column)
    echo = 255 * strength[keep] * (0.35 + 0.65 * cosine[keep]) * np.exp(-distance / 150.0)
    points[:, 3] = np.clip(np.round(echo * rng.uniform(0.8, 1.2, len(distance))), 0, 255)
    points[:, 4] = ring
    return Sweep(points, ids[keep])


def _positions(
    elevation: np.ndarray, azimuth: np.ndarray, distance: np.ndarray, poses: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Returns points (N, 3), each measured from its column's pose, in the sensor frame of the last column."""
    flat = distance * np.cos(elevation)
    local = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation)], -1)
    moved = np.linalg.inv(poses[-1]) @ poses
    turn, shift = moved[:, :3, :3], moved[:, :3, 3]
    return np.stack([(turn[column, k] * local).sum(1) for k in range(3)], -1) + shift[column]


def _echoes(
    rng: np.random.Generator, spinner: Spinner, distance: np.ndarray, strength: np.ndarray, cosine: np.ndarray
) -> np.ndarray:
    """Tells which rays return enough light; dark, slanted and far surfaces fade out. All arrays have one shape."""
    reach = 22.0 + 190.0 * np.sqrt(strength * np.maximum(cosine, 0.02))
    fade = np.clip((reach * 1.15 - distance) / (0.3 * reach), 0.0, 1.0)
    chance = (1.0 - spinner.drop_share) * fade
    return (rng.random(distance.shape) < chance) & (distance >= spinner.min_range_m)
