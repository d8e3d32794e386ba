"""A spinning laser scanner: one column of beams at a time, each from where the moving sensor is at that moment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import prange

from perception3d.simulation.render.ground import REFLECTIVITY as GROUND_REFLECTIVITY
from perception3d.simulation.render.ground import Ground, ground_kind
from perception3d.simulation.render.hits import MISS, hit, unit_normal
from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.table import AXES, CENTER, HALF, KIND, MATERIAL, TAPER, solid_table
from perception3d.simulation.world.materials import REFLECTIVITY
from perception3d.simulation.world.primitives import Primitives


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


@kernel()
def _nearest_in_column(beams, near, count, solids, into, shift, origin, turn, azimuth, out_t, out_id, limit):
    """Tests the `count` solids listed in `near` against every beam of one column."""
    kind, center, taper = solids
    cos_az, sin_az = math.cos(azimuth), math.sin(azimuth)
    for n in range(count):
        i = near[n]
        wx = origin[0] - center[i, 0] - shift[i, 0]
        wy = origin[1] - center[i, 1] - shift[i, 1]
        wz = origin[2] - center[i, 2]
        m = into[i]
        ox = m[0, 0] * wx + m[0, 1] * wy + m[0, 2] * wz
        oy = m[1, 0] * wx + m[1, 1] * wy + m[1, 2] * wz
        oz = m[2, 0] * wx + m[2, 1] * wy + m[2, 2] * wz
        for k in range(len(beams)):
            lx, ly, lz = math.cos(beams[k]) * cos_az, math.cos(beams[k]) * sin_az, math.sin(beams[k])
            dx = turn[0, 0] * lx + turn[0, 1] * ly + turn[0, 2] * lz
            dy = turn[1, 0] * lx + turn[1, 1] * ly + turn[1, 2] * lz
            dz = turn[2, 0] * lx + turn[2, 1] * ly + turn[2, 2] * lz
            t = hit(
                kind[i], ox, oy, oz,
                m[0, 0] * dx + m[0, 1] * dy + m[0, 2] * dz,
                m[1, 0] * dx + m[1, 1] * dy + m[1, 2] * dz,
                m[2, 0] * dx + m[2, 1] * dy + m[2, 2] * dz,
                taper[i, 0], taper[i, 1], taper[i, 2],
            )  # fmt: skip
            if 0.05 < t < out_t[k] and t < limit:
                out_t[k] = t
                out_id[k] = i


@kernel(parallel=True)
def _scan(beams, azimuths, offsets, poses, solids, into, radius, velocity, limit, ranges, ids):
    """Fills ranges (columns, beams) float64 and ids (columns, beams) int32: -2 nothing, -1 ground, else the solid."""
    kind, center, taper = solids
    for c in prange(len(azimuths)):
        turn, origin = poses[c, :3, :3], poses[c, :3, 3]
        shift = velocity * offsets[c]
        fx = turn[0, 0] * math.cos(azimuths[c]) + turn[0, 1] * math.sin(azimuths[c])
        fy = turn[1, 0] * math.cos(azimuths[c]) + turn[1, 1] * math.sin(azimuths[c])
        flat = math.sqrt(fx * fx + fy * fy)
        fx, fy = fx / flat, fy / flat
        near = np.empty(len(kind), np.int64)
        count = 0
        for i in range(len(kind)):
            px = center[i, 0] + shift[i, 0] - origin[0]
            py = center[i, 1] + shift[i, 1] - origin[1]
            ahead = px * fx + py * fy
            # Beams lean out of the vertical plane by the sensor's tilt, a few percent of the distance.
            slack = radius[i] + 0.03 * abs(ahead)
            if abs(px * fy - py * fx) <= slack and ahead >= -slack and ahead <= limit + slack:
                near[count] = i
                count += 1
        for k in range(len(beams)):
            lx, ly = math.cos(beams[k]) * math.cos(azimuths[c]), math.cos(beams[k]) * math.sin(azimuths[c])
            dz = turn[2, 0] * lx + turn[2, 1] * ly + turn[2, 2] * math.sin(beams[k])
            ranges[c, k], ids[c, k] = MISS, -2
            if dz < 0.0 and -origin[2] / dz < limit:
                ranges[c, k], ids[c, k] = -origin[2] / dz, -1
        _nearest_in_column(beams, near, count, solids, into, shift, origin, turn, azimuths[c], ranges[c], ids[c], limit)


@kernel()
def _surface(points, directions, shift, ids, solids, roads, decals, soil, table, ground_table):
    """Reflectivity (N,) and cosine of incidence (N,) at hit points (N, 3); `solids` as in `table`."""
    strength, cosine = np.empty(len(ids)), np.empty(len(ids))
    for n in range(len(ids)):
        i = ids[n]
        if i < 0:
            strength[n] = ground_table[ground_kind(roads, decals, soil, points[n, 0], points[n, 1])]
            cosine[n] = -directions[n, 2]
            continue
        wx = points[n, 0] - shift[n, 0] - solids[i, CENTER]
        wy = points[n, 1] - shift[n, 1] - solids[i, CENTER + 1]
        wz = points[n, 2] - solids[i, CENTER + 2]
        hx, hy, hz = solids[i, HALF], solids[i, HALF + 1], solids[i, HALF + 2]
        x = (solids[i, AXES] * wx + solids[i, AXES + 3] * wy + solids[i, AXES + 6] * wz) / hx
        y = (solids[i, AXES + 1] * wx + solids[i, AXES + 4] * wy + solids[i, AXES + 7] * wz) / hy
        z = (solids[i, AXES + 2] * wx + solids[i, AXES + 5] * wy + solids[i, AXES + 8] * wz) / hz
        kind = int(solids[i, KIND])
        u, v, s = unit_normal(kind, x, y, z, solids[i, TAPER], solids[i, TAPER + 1], solids[i, TAPER + 2])
        u, v, s = u / hx, v / hy, s / hz
        along = 0.0
        for r in range(3):
            a = AXES + 3 * r
            along += directions[n, r] * (solids[i, a] * u + solids[i, a + 1] * v + solids[i, a + 2] * s)
        strength[n] = table[int(solids[i, MATERIAL])]
        cosine[n] = abs(along) / math.sqrt(u * u + v * v + s * s)
    return strength, cosine


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
    into = solids.axes.astype(np.float64).transpose(0, 2, 1) / solids.half[:, :, None].astype(np.float64)
    center = solids.center.astype(np.float64)
    radius = np.linalg.norm(solids.half, axis=1).astype(np.float64)
    ranges = np.empty((len(azimuths), len(beams)))
    ids = np.empty(ranges.shape, np.int32)
    _scan(
        beams, azimuths, offsets, world_from_lidar, (solids.kind, center, solids.taper), np.ascontiguousarray(into),
        radius, solid_velocity, spinner.max_range_m, ranges, ids,
    )  # fmt: skip
    column, ring = np.nonzero(ids > -2)
    solid, distance = ids[column, ring], ranges[column, ring]
    local = np.stack(
        [
            np.cos(beams[ring]) * np.cos(azimuths[column]),
            np.cos(beams[ring]) * np.sin(azimuths[column]),
            np.sin(beams[ring]),
        ],
        -1,
    )
    direction = np.einsum('nij,nj->ni', world_from_lidar[column, :3, :3], local)
    origin = world_from_lidar[column, :3, 3]
    shift = np.where(solid[:, None] >= 0, solid_velocity[np.maximum(solid, 0)], 0.0) * offsets[column, None]
    strength, cosine = _surface(
        origin + distance[:, None] * direction, direction, shift, solid, solid_table(solids), *ground,
        REFLECTIVITY, GROUND_REFLECTIVITY,
    )  # fmt: skip
    keep = _echoes(rng, spinner, distance, strength, cosine)
    measured = distance + spinner.range_noise_m * rng.normal(size=len(distance))
    hits = origin + measured[:, None] * direction
    last = world_from_lidar[-1]
    points = np.empty((len(hits), 5), np.float32)
    points[:, :3] = (hits - last[:3, 3]) @ last[:3, :3]
    echo = 255 * strength * (0.35 + 0.65 * cosine) * np.exp(-distance / 150.0) * rng.uniform(0.8, 1.2, len(distance))
    points[:, 3] = np.clip(np.round(echo), 0, 255)
    points[:, 4] = ring
    return Sweep(points[keep], solid[keep])


def _echoes(
    rng: np.random.Generator, spinner: Spinner, distance: np.ndarray, strength: np.ndarray, cosine: np.ndarray
) -> np.ndarray:
    """Tells which rays (N,) return enough light; dark, slanted and far surfaces fade out."""
    reach = 22.0 + 190.0 * np.sqrt(strength * np.maximum(cosine, 0.02))
    fade = np.clip((reach * 1.15 - distance) / (0.3 * reach), 0.0, 1.0)
    chance = (1.0 - spinner.drop_share) * fade
    return (rng.random(len(distance)) < chance) & (distance >= spinner.min_range_m)
