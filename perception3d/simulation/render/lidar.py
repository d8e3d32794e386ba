"""A spinning LiDAR: one column of beams at a time, each from where the moving sensor is when the column fires."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import prange

from perception3d.simulation.render.ground import REFLECTIVITY as GROUND_REFLECTIVITY
from perception3d.simulation.render.ground import (
    ROAD,
    Ground,
    GroundColors,
    area_surface,
    echoing_surface,
    ground_surface,
)
from perception3d.simulation.render.hits import MISS, hit, unit_normal
from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.materials import REFLECTIVITY
from perception3d.simulation.render.primitives import SCENERY_OWNER, Primitives
from perception3d.simulation.render.surfaces import Surface
from perception3d.simulation.render.table import (
    AXES,
    CENTER,
    HALF,
    KIND,
    MATERIAL,
    RADIUS,
    TAPER,
    VELOCITY,
    moving_table,
)

NO_HIT, HIT_GROUND = -2, -1
NO_SURFACE = -1


@dataclass(frozen=True)
class LidarModel:
    """A LiDAR's geometry: beam elevations (lowest first) and azimuth steps of one revolution.

    The head rotates clockwise seen from above and ends its revolution at `last_azimuth_rad` in the sensor frame (x
    right, y forward, z up). Ranges outside min_range_m..max_range_m give no point.
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
        """Returns when each column fires, (columns,) seconds relative to the end of the revolution (all <= 0)."""
        return (np.arange(1, self.columns + 1) / self.columns - 1.0) * self.period_s

    def azimuths_rad(self) -> np.ndarray:
        """Returns the direction of each column in the sensor frame, (columns,) radians from x towards y."""
        return self.last_azimuth_rad - 2 * np.pi * (np.arange(1, self.columns + 1) / self.columns - 1.0)


HDL32E = LidarModel(
    elevations_rad=tuple(np.deg2rad(-30.67 + 41.34 / 31 * k) for k in range(32)),
    columns=1090,
    period_s=0.05,
    last_azimuth_rad=float(np.deg2rad(190.0)),
)
"""The LiDAR of nuScenes: 32 beams from -30.67 to 10.67 degrees, 20 revolutions a second."""


@dataclass(frozen=True)
class Relief:
    """What a LiDAR measures of a ground that is not flat and of leaves that are no surface, in metres.

    curb_m: height of sidewalks and terrain above the road. grass_m, leaves_m: mean height of grass above terrain, mean
    depth in leaves from which an echo comes.
    """

    curb_m: float = 0.0
    grass_m: float = 0.0
    leaves_m: float = 0.0


FLAT = Relief()


@dataclass(frozen=True)
class Sweep:
    """The points of one revolution.

    points (N, 5) float32: x, y, z in metres in the sensor frame at the end of the revolution, intensity 0..255, ring.
    solid (N,) int32: index of the solid that was hit, -1 for the ground. owner (N,) int32: index of the agent that this
    solid belongs to, -1 for the scenery and the ground. surface (N,) int8: what the ground or the solid is, see
    `Surface`. All three are those of the surface itself, whatever the range noise does.
    """

    points: np.ndarray
    solid: np.ndarray
    owner: np.ndarray
    surface: np.ndarray


class Beams(NamedTuple):
    """What a LiDAR emits during one revolution of C columns and B beams.

    elevations (B,) radians; columns (C, 2): azimuth in radians and seconds before (< 0) the end of the revolution;
    poses (C, 4, 4): world from sensor when the column fires.
    """

    elevations: np.ndarray
    columns: np.ndarray
    poses: np.ndarray


class Hits(NamedTuple):
    """What each ray hits first: ranges (C, B) in metres; ids (C, B) int32: NO_HIT, HIT_GROUND, else the solid."""

    ranges: np.ndarray
    ids: np.ndarray


class Echoes(NamedTuple):
    """How each ray comes back, (C, B) each: reflectivity 0..1, cosine of incidence, `Surface` or NO_SURFACE."""

    strength: np.ndarray
    cosine: np.ndarray
    surface: np.ndarray


@kernel(inline='always')
def beam_direction(rotation, elevation, azimuth):
    """World direction of a beam of a sensor whose axes in the world are the columns of `rotation`."""
    x, y, z = math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)
    return (
        rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z,
        rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z,
        rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z,
    )


@kernel(inline='always')
def into_unit(solids, i, x, y, z):
    """Vector x, y, z of the world in the unit frame of solid i."""
    return (
        (solids[i, AXES] * x + solids[i, AXES + 3] * y + solids[i, AXES + 6] * z) / solids[i, HALF],
        (solids[i, AXES + 1] * x + solids[i, AXES + 4] * y + solids[i, AXES + 7] * z) / solids[i, HALF + 1],
        (solids[i, AXES + 2] * x + solids[i, AXES + 5] * y + solids[i, AXES + 8] * z) / solids[i, HALF + 2],
    )


@kernel()
def list_near(solids, pose, azimuth, shift_s, limit, near):
    """Fills `near` with the solids that a column's upright half plane comes close to; returns how many."""
    fx = pose[0, 0] * math.cos(azimuth) + pose[0, 1] * math.sin(azimuth)
    fy = pose[1, 0] * math.cos(azimuth) + pose[1, 1] * math.sin(azimuth)
    flat = math.sqrt(fx * fx + fy * fy)
    fx, fy = fx / flat, fy / flat
    count = 0
    for i in range(len(solids)):
        px = solids[i, CENTER] + solids[i, VELOCITY] * shift_s - pose[0, 3]
        py = solids[i, CENTER + 1] + solids[i, VELOCITY + 1] * shift_s - pose[1, 3]
        ahead = px * fx + py * fy
        # Beams lean out of the upright plane by the sensor's tilt, a few percent of the distance.
        slack = solids[i, RADIUS] + 0.03 * abs(ahead)
        if abs(px * fy - py * fx) <= slack and -slack <= ahead <= limit + slack:
            near[count] = i
            count += 1
    return count


@kernel()
def _cast_column(elevations, column, pose, solids, limit, ranges, ids):
    """Fills the ranges (B,) and ids (B,) of one column, see `Hits`; column (2,): see `Beams`."""
    near, rays = np.empty(len(solids), np.int32), np.empty((len(elevations), 3))
    azimuth, shift_s = column
    count = list_near(solids, pose, azimuth, shift_s, limit, near)
    for k in range(len(elevations)):
        rays[k, 0], rays[k, 1], rays[k, 2] = beam_direction(pose, elevations[k], azimuth)
        on_ground = rays[k, 2] < 0.0 and -pose[2, 3] / rays[k, 2] < limit
        ranges[k], ids[k] = -pose[2, 3] / rays[k, 2] if on_ground else limit, HIT_GROUND if on_ground else NO_HIT
    for n in range(count):
        i = near[n]
        wx = pose[0, 3] - solids[i, CENTER] - solids[i, VELOCITY] * shift_s
        wy = pose[1, 3] - solids[i, CENTER + 1] - solids[i, VELOCITY + 1] * shift_s
        wz = pose[2, 3] - solids[i, CENTER + 2]
        origin = into_unit(solids, i, wx, wy, wz)
        kind = int(solids[i, KIND])
        taper = (solids[i, TAPER], solids[i, TAPER + 1], solids[i, TAPER + 2])
        radius = solids[i, RADIUS]
        apart = math.sqrt(wx * wx + wy * wy)
        # A beam that passes above or below the bounding sphere, tilt included, need not be tested.
        height, spread = math.atan2(-wz, apart), 9.0
        if apart > radius:
            spread = 0.06 + 1.6 * radius / apart
        for k in range(len(elevations)):
            if abs(height - elevations[k]) > spread:
                continue
            t = hit(kind, origin, into_unit(solids, i, rays[k, 0], rays[k, 1], rays[k, 2]), taper)
            if 0.05 < t < ranges[k]:
                ranges[k] = t
                ids[k] = i


@kernel(parallel=True)
def _cast_rays(beams, solids, limit, hits):
    """Fills `hits` with what every ray hits first, up to `limit` metres."""
    # Parallel loops take arrays but no named tuples.
    elevations, columns, poses = beams.elevations, beams.columns, beams.poses
    ranges, ids = hits.ranges, hits.ids
    for c in prange(len(columns)):
        _cast_column(elevations, columns[c], poses[c], solids, limit, ranges[c], ids[c])


@kernel()
def _is_raised(roads, decals, x, y):
    """Tells whether the ground at a point (x, y) lies above the road."""
    return ground_surface(roads, decals, x, y) < ROAD


@kernel()
def _reach_raised(roads, decals, pose, ray, height):
    """Distance in metres at which a ray that points down hits ground of `height`, or its curb; `MISS` if neither."""
    flat, top = -pose[2, 3] / ray[2], (height - pose[2, 3]) / ray[2]
    if _is_raised(roads, decals, pose[0, 3] + top * ray[0], pose[1, 3] + top * ray[1]):
        return top
    if not _is_raised(roads, decals, pose[0, 3] + flat * ray[0], pose[1, 3] + flat * ray[1]):
        return MISS
    for _ in range(14):
        middle = 0.5 * (top + flat)
        if _is_raised(roads, decals, pose[0, 3] + middle * ray[0], pose[1, 3] + middle * ray[1]):
            flat = middle
        else:
            top = middle
    return flat


@kernel(parallel=True)
def _raise_ground(beams, ground, height, hits):
    """Moves `hits` to sidewalks, terrain and curbs, which lie `height` metres above the road."""
    elevations, columns, poses = beams.elevations, beams.columns, beams.poses
    roads, decals = ground.roads, ground.decals
    ranges, ids = hits.ranges, hits.ids
    for c in prange(len(columns)):
        for k in range(len(elevations)):
            ray = beam_direction(poses[c], elevations[k], columns[c, 0])
            if ray[2] < 0.0 and (height - poses[c, 2, 3]) / ray[2] < ranges[c, k]:
                reach = _reach_raised(roads, decals, poses[c], ray, height)
                if reach < ranges[c, k]:
                    ranges[c, k], ids[c, k] = reach, HIT_GROUND


@kernel()
def _incidence(solids, i, offset, ray):
    """Cosine between a ray and the surface normal of solid i at the world point centre + offset."""
    x, y, z = into_unit(solids, i, offset[0], offset[1], offset[2])
    taper = (solids[i, TAPER], solids[i, TAPER + 1], solids[i, TAPER + 2])
    u, v, w = unit_normal(int(solids[i, KIND]), (x, y, z), taper)
    u, v, w = u / solids[i, HALF], v / solids[i, HALF + 1], w / solids[i, HALF + 2]
    along = ray[0] * (solids[i, AXES] * u + solids[i, AXES + 1] * v + solids[i, AXES + 2] * w)
    along += ray[1] * (solids[i, AXES + 3] * u + solids[i, AXES + 4] * v + solids[i, AXES + 5] * w)
    along += ray[2] * (solids[i, AXES + 6] * u + solids[i, AXES + 7] * v + solids[i, AXES + 8] * w)
    return abs(along) / math.sqrt(u * u + v * v + w * w)


@kernel(parallel=True)
def _reflect(beams, solids, surfaces, ground, hits, echoes):
    """Fills `echoes` where a ray hit something; surfaces (N,): those of the solids."""
    elevations, columns, poses = beams.elevations, beams.columns, beams.poses
    roads, decals, areas = ground.roads, ground.decals, ground.areas
    curb_band, seed = ground.colors.curb_band, ground.colors.seed
    ranges, ids = hits.ranges, hits.ids
    strength, cosine, surface = echoes.strength, echoes.cosine, echoes.surface
    for c in prange(len(columns)):
        pose, azimuth, shift_s = poses[c], columns[c, 0], columns[c, 1]
        black = (0.0, 0.0, 0.0)
        colors = GroundColors(black, black, black, black, curb_band, seed)
        for k in range(len(elevations)):
            i, t = ids[c, k], ranges[c, k]
            if i == NO_HIT:
                continue
            dx, dy, dz = beam_direction(pose, elevations[k], azimuth)
            px, py, pz = pose[0, 3] + t * dx, pose[1, 3] + t * dy, pose[2, 3] + t * dz
            if i == HIT_GROUND:
                found = ground_surface(roads, decals, px, py)
                surface[c, k] = area_surface(roads, areas, found, px, py)
                echoing = echoing_surface(roads, decals, colors, px, py)
                strength[c, k] = GROUND_REFLECTIVITY[surface[c, k] if surface[c, k] != found else echoing]
                cosine[c, k] = -dz
                continue
            px -= solids[i, CENTER] + solids[i, VELOCITY] * shift_s
            py -= solids[i, CENTER + 1] + solids[i, VELOCITY + 1] * shift_s
            surface[c, k] = surfaces[i]
            strength[c, k] = REFLECTIVITY[int(solids[i, MATERIAL])]
            cosine[c, k] = _incidence(solids, i, (px, py, pz - solids[i, CENTER + 2]), (dx, dy, dz))


def scan(
    solids: Primitives,
    solid_velocity: np.ndarray,
    ground: Ground,
    lidar: LidarModel,
    world_from_lidar: np.ndarray,
    rng: np.random.Generator,
    relief: Relief = FLAT,
) -> Sweep:
    """Returns the points of one revolution.

    solids: as they are at the end of the revolution; solid_velocity (S, 2) m/s takes them back to the time when a
    column fires. world_from_lidar (columns, 4, 4): the sensor's pose at every column's time. Each point is measured at
    its own time and pose; all are then expressed in the sensor frame at the end of the revolution, so that static
    objects are sharp and moving ones are displaced by their motion, as in nuScenes. Rays without an echo give no point.
    """
    columns = np.column_stack([lidar.azimuths_rad(), lidar.column_offsets_s()])
    beams = Beams(np.array(lidar.elevations_rad), columns, np.ascontiguousarray(world_from_lidar))
    table = moving_table(solids, solid_velocity)
    shape = (len(columns), len(beams.elevations))
    hits = Hits(np.empty(shape), np.empty(shape, np.int32))
    _cast_rays(beams, table, lidar.max_range_m, hits)
    if relief.curb_m > 0:
        _raise_ground(beams, ground, relief.curb_m, hits)
    echoes = Echoes(np.zeros(shape), np.ones(shape), np.full(shape, NO_SURFACE, np.int8))
    _reflect(beams, table, solids.surface, ground, hits, echoes)
    keep = _returns(rng, lidar, hits.ranges, echoes) & (hits.ids > NO_HIT)
    column, ring = np.nonzero(keep)
    distance = hits.ranges[keep]
    points = np.empty((len(distance), 5), np.float32)
    measured = distance + lidar.range_noise_m * rng.normal(size=len(distance))
    if relief != FLAT:
        room = _depth_to_ground(beams, column, ring, relief.curb_m) - distance
        measured += _offsets(rng, relief, echoes.surface[keep], echoes.cosine[keep], room)
    points[:, :3] = _positions(beams, column, ring, measured)
    echo = 255 * echoes.strength[keep] * (0.35 + 0.65 * echoes.cosine[keep]) * np.exp(-distance / 150.0)
    points[:, 3] = np.clip(np.round(echo * rng.uniform(0.8, 1.2, len(distance))), 0, 255)
    points[:, 4] = ring
    solid = hits.ids[keep]
    # The ground has index -1, which reads the appended owner.
    owner = np.append(solids.owner, np.int32(SCENERY_OWNER))[solid]
    return Sweep(points, solid, owner, echoes.surface[keep])


def _offsets(
    rng: np.random.Generator, relief: Relief, surface: np.ndarray, cosine: np.ndarray, room: np.ndarray
) -> np.ndarray:
    """Returns how much farther than the smooth surface each echo comes from, (N,) metres: grass is before it.

    room (N,): how far behind the surface the ground is.
    """
    draw = rng.exponential(size=len(surface))
    grass = np.minimum(relief.grass_m * draw / np.maximum(cosine, 0.05), 1.0)
    leaves = np.clip(np.minimum(relief.leaves_m * draw, 1.0), 0.0, np.maximum(room, 0.0))
    return np.where(surface == Surface.TERRAIN, -grass, np.where(surface == Surface.VEGETATION, leaves, 0.0))


def _depth_to_ground(beams: Beams, column: np.ndarray, ring: np.ndarray, height_m: float) -> np.ndarray:
    """Returns the distance (N,) at which rays meet the plane of `height_m`, infinite for those that point up."""
    elevation, azimuth = beams.elevations[ring], beams.columns[column, 0]
    local = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1)
    fall = -(beams.poses[column, 2, :3] * local).sum(1)
    return np.where(fall > 1e-6, (beams.poses[column, 2, 3] - height_m) / np.maximum(fall, 1e-6), np.inf)


def _positions(beams: Beams, column: np.ndarray, ring: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Returns points (N, 3), each measured from its column's pose, in the sensor frame of the last column."""
    elevation, azimuth = beams.elevations[ring], beams.columns[column, 0]
    flat = distance * np.cos(elevation)
    local = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation)], -1)
    last_from_column = np.linalg.inv(beams.poses[-1]) @ beams.poses
    rotation, shift = last_from_column[:, :3, :3], last_from_column[:, :3, 3]
    return np.stack([(rotation[column, k] * local).sum(1) for k in range(3)], -1) + shift[column]


def _returns(rng: np.random.Generator, lidar: LidarModel, distance: np.ndarray, echoes: Echoes) -> np.ndarray:
    """Tells which rays return enough light; dark, slanted and far surfaces fade out. All arrays have one shape."""
    visible_m = 22.0 + 190.0 * np.sqrt(echoes.strength * np.maximum(echoes.cosine, 0.02))
    fade = np.clip((visible_m * 1.15 - distance) / (0.3 * visible_m), 0.0, 1.0)
    chance = (1.0 - lidar.drop_share) * fade
    return (rng.random(distance.shape) < chance) & (distance >= lidar.min_range_m)
