"""Colour of every pixel: sun with cast shadows, sky light, haze, glossy paint and glass, procedural surfaces."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from perception3d.simulation.render.ground import Footprint, Ground, GroundColors, ground_color
from perception3d.simulation.render.hits import unit_normal
from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.materials import (
    BARRIER,
    BUILDING,
    BUS_BODY,
    CABIN,
    CARGO,
    CONE,
    FOLIAGE,
    GLASS,
    HEAD_LAMP,
    PAINT,
    TAIL_LAMP,
)
from perception3d.simulation.render.noise import cover_periodic, hash_unit, solid_noise, value_noise
from perception3d.simulation.render.raster import GROUND, SKY
from perception3d.simulation.render.table import AXES, CENTER, COLOR, HALF, KIND, MATERIAL, TAPER

Triple = tuple[float, float, float]


def as_triple(values: np.ndarray) -> Triple:
    """Returns three values, such as a vector or a colour, as Python floats."""
    first, second, third = map(float, values)
    return first, second, third


class Light(NamedTuple):
    """Light and air of one scene; colours are linear RGB, `to_sun` a unit vector in the world."""

    to_sun: Triple
    sun: Triple
    zenith: Triple
    horizon: Triple
    bounce: Triple
    clouds: float
    haze_per_m: float
    wet: float
    lamps: float
    exposure: float
    noise: float
    seed: int


class ShadowFrame(NamedTuple):
    """The plane of a shadow map: the cell of a point p is (p - corner) . axis / step."""

    corner: Triple
    axis_u: Triple
    axis_v: Triple
    along: Triple
    step_m: float


class Shadow(NamedTuple):
    """Depth (H, W) float32 of the first surface along the sun's rays, and the plane of the map."""

    depth: np.ndarray
    frame: ShadowFrame


class Surfaces(NamedTuple):
    """What each ray of an image hits first, as drawn by `raster`: depth (H, W) float32 and ids (H, W) int32."""

    depth: np.ndarray
    ids: np.ndarray


class Rays(NamedTuple):
    """The rays of an image: origin in the world; `matrix` (9 numbers, row by row) takes (u, v, 1) to the ray of depth
    1 in the world; width of a pixel at depth 1.
    """

    origin: Triple
    matrix: tuple[float, ...]
    pixel: float


class Setting(NamedTuple):
    """Everything that `shade` needs besides arrays."""

    colors: GroundColors
    light: Light
    frame: ShadowFrame
    rays: Rays


@kernel(fastmath=True)
def sky_color(light, x, y, z, clouds):
    """Returns the sky's linear colour in a direction (unit vector); `clouds` 0 leaves them out."""
    up = max(z, 0.0)
    mix = math.sqrt(up)
    toward = max(0.0, x * light.to_sun[0] + y * light.to_sun[1] + z * light.to_sun[2])
    glow = 0.25 * toward**8 + 2.0 * toward**400
    cloud = 0.0
    if clouds > 0.0 and z > 0.03:
        px, py = x / (z + 0.12), y / (z + 0.12)
        field = 0.6 * value_noise(px * 1.3, py * 1.3, light.seed) + 0.4 * value_noise(
            px * 4.1, py * 4.1, light.seed + 9
        )
        cloud = min(1.0, max(0.0, (field - 1.0 + clouds) * 3.0)) * min(1.0, z * 6.0)
    r = light.horizon[0] + mix * (light.zenith[0] - light.horizon[0]) + glow * light.sun[0] * 0.3
    g = light.horizon[1] + mix * (light.zenith[1] - light.horizon[1]) + glow * light.sun[1] * 0.3
    b = light.horizon[2] + mix * (light.zenith[2] - light.horizon[2]) + glow * light.sun[2] * 0.3
    white = 0.9 * (light.horizon[0] + light.horizon[1] + light.horizon[2]) / 3.0 + 0.06 * light.sun[0]
    return r + cloud * (white - r), g + cloud * (white - g), b + cloud * (white - b)


@kernel(fastmath=True)
def sunlit(depth, frame, x, y, z, bias):
    """Returns the share 0..1 of the sun that reaches a point (bilinear over four shadow-map cells)."""
    px, py, pz = x - frame.corner[0], y - frame.corner[1], z - frame.corner[2]
    u = (px * frame.axis_u[0] + py * frame.axis_u[1] + pz * frame.axis_u[2]) / frame.step_m
    v = (px * frame.axis_v[0] + py * frame.axis_v[1] + pz * frame.axis_v[2]) / frame.step_m
    height, width = depth.shape
    if u < 0.0 or v < 0.0 or u >= width - 1 or v >= height - 1:
        return 1.0
    limit = px * frame.along[0] + py * frame.along[1] + pz * frame.along[2] - bias
    iu, iv = int(u), int(v)
    fu, fv = u - iu, v - iv
    low = (1.0 - fu) * (depth[iv, iu] > limit) + fu * (depth[iv, iu + 1] > limit)
    high = (1.0 - fu) * (depth[iv + 1, iu] > limit) + fu * (depth[iv + 1, iu + 1] > limit)
    return low * (1.0 - fv) + high * fv


@kernel(fastmath=True)
def _facade(i, solids, point, normal, size, light):
    """Window share, lit share and brightness of a building's wall at a unit point."""
    x, y, z = point
    nx, ny, nz = normal
    if abs(nz) > 0.5:
        return 0.0, 0.0, 0.55
    run = x * solids[i, HALF] if abs(ny) > abs(nx) else y * solids[i, HALF + 1]
    rise = (z + 1.0) * solids[i, HALF + 2]
    style = hash_unit(i, 11, light.seed)
    period = 1.6 + 2.8 * hash_unit(i, 12, light.seed)
    storey = 2.9 + 0.9 * hash_unit(i, 13, light.seed)
    width = max(size, 0.02)
    if rise < 3.6:
        glass = cover_periodic(run, 0.72 * period * 2.0, period * 2.0, width) * (1.0 if 0.5 < rise < 2.8 else 0.0)
        return glass, 0.25, 0.8
    across = 1.0 if style > 0.8 else cover_periodic(run, (0.45 + 0.3 * style) * period, period, width)
    up = cover_periodic(rise - 0.9, (0.45 + 0.2 * style) * storey, storey, width)
    cell = hash_unit(int(math.floor(run / period)), int(math.floor((rise - 0.9) / storey)) + 31 * i, light.seed)
    return across * up, cell, 1.0


@kernel(fastmath=True)
def _window_share(material, point, normal, length):
    """Share of glass on a vehicle's cabin (CABIN) or on a BUS_BODY at a unit point."""
    x, y, z = point
    nx, ny, nz = normal
    if material == CABIN:
        if nz > 0.8 or z < -0.8 or z > 0.72:
            return 0.0
        if abs(ny) > abs(nx):
            return 0.0 if abs(x) > 0.86 or abs(x - 0.05) < 0.05 else 1.0
        return 0.0 if abs(y) > 0.86 else 1.0
    if abs(nz) > 0.5:
        return 0.0
    if abs(ny) > abs(nx):
        if z < -0.1 or z > 0.62 or abs(x) > 0.96:
            return 0.0
        return 1.0 - cover_periodic(x * length, 0.12, 1.5, 0.02)
    if nx > 0.0:
        return 1.0 if -0.3 < z < 0.78 and abs(y) < 0.9 else 0.0
    return 1.0 if 0.15 < z < 0.66 and abs(y) < 0.7 else 0.0


@kernel(fastmath=True)
def _pattern(i, solids, point, normal, size, light):
    """Albedo (r, g, b), gloss 0..1 and emitted light of solid i at a unit point."""
    material = int(solids[i, MATERIAL])
    x, y, z = point
    nz = normal[2]
    r, g, b = solids[i, COLOR], solids[i, COLOR + 1], solids[i, COLOR + 2]
    if material == PAINT:
        return r, g, b, 0.35, 0.0
    if material == GLASS:
        return r, g, b, 1.0, 0.0
    if material in (CABIN, BUS_BODY):
        glass = _window_share(material, point, normal, solids[i, HALF])
        keep = 1.0 - glass
        return r * keep + 0.02 * glass, g * keep + 0.025 * glass, b * keep + 0.03 * glass, 0.35 + 0.6 * glass, 0.0
    if material == BUILDING:
        glass, lit, tone = _facade(i, solids, point, normal, size, light)
        keep = (1.0 - glass) * tone
        glow = 0.35 * light.lamps * glass if lit > 0.6 else 0.0
        return r * keep + 0.04 * glass, g * keep + 0.05 * glass, b * keep + 0.06 * glass, 0.85 * glass, glow
    if material == FOLIAGE:
        hx, hy, hz = x * solids[i, HALF], y * solids[i, HALF + 1], z * solids[i, HALF + 2]
        tone = 0.35 + 1.1 * solid_noise(hx * 1.6, hy * 1.6, hz * 1.6, i)
        if size < 0.12:
            tone *= 0.6 + 0.8 * solid_noise(hx * 9.0, hy * 9.0, hz * 9.0, i)
        return r * tone, g * tone, b * tone, 0.0, 0.0
    if material == HEAD_LAMP:
        return r, g, b, 0.5, 0.25 + light.lamps
    if material == TAIL_LAMP:
        return r, g, b, 0.5, 0.15 + 0.6 * light.lamps
    if material == CONE:
        white = 1.0 if -0.35 < z < 0.3 else 0.0
        return r + white * (0.8 - r), g + white * (0.8 - g), b + white * (0.8 - b), 0.0, 0.0
    if material == BARRIER:
        white = cover_periodic(y + 0.15 * z, 0.5, 1.0, 0.02)
        return r + white * (0.75 - r), g + white * (0.75 - g), b + white * (0.75 - b), 0.0, 0.0
    if material == CARGO and abs(nz) < 0.5:
        style = hash_unit(i, 5, light.seed)
        low, high = -0.5 + 0.6 * style, 0.1 + 0.6 * style
        if low < z < high and abs(x) < 0.3 + 0.5 * style and abs(y) < 0.9:
            return 0.1 + 0.6 * style, 0.15 + 0.3 * b, 0.7 - 0.6 * style, 0.2, 0.0
        return r, g, b, 0.2, 0.0
    return r, g, b, 0.0, 0.0


@kernel(fastmath=True)
def _lit_solid(i, solids, setting, shade_map, point, ray, size):
    """Linear colour of solid i at a world point, seen along the unit direction `ray` (towards the surface)."""
    light, frame = setting.light, setting.frame
    px, py, pz = point
    ox, oy, oz = ray
    wx, wy, wz = px - solids[i, CENTER], py - solids[i, CENTER + 1], pz - solids[i, CENTER + 2]
    x = (solids[i, AXES] * wx + solids[i, AXES + 3] * wy + solids[i, AXES + 6] * wz) / solids[i, HALF]
    y = (solids[i, AXES + 1] * wx + solids[i, AXES + 4] * wy + solids[i, AXES + 7] * wz) / solids[i, HALF + 1]
    z = (solids[i, AXES + 2] * wx + solids[i, AXES + 5] * wy + solids[i, AXES + 8] * wz) / solids[i, HALF + 2]
    taper = (solids[i, TAPER], solids[i, TAPER + 1], solids[i, TAPER + 2])
    ux, uy, uz = unit_normal(int(solids[i, KIND]), (x, y, z), taper)
    ux, uy, uz = ux / solids[i, HALF], uy / solids[i, HALF + 1], uz / solids[i, HALF + 2]
    scale = 1.0 / math.sqrt(ux * ux + uy * uy + uz * uz)
    ux, uy, uz = ux * scale, uy * scale, uz * scale
    nx = solids[i, AXES] * ux + solids[i, AXES + 1] * uy + solids[i, AXES + 2] * uz
    ny = solids[i, AXES + 3] * ux + solids[i, AXES + 4] * uy + solids[i, AXES + 5] * uz
    nz = solids[i, AXES + 6] * ux + solids[i, AXES + 7] * uy + solids[i, AXES + 8] * uz
    r, g, b, gloss, emitted = _pattern(i, solids, (x, y, z), (ux, uy, uz), size, light)
    facing = nx * light.to_sun[0] + ny * light.to_sun[1] + nz * light.to_sun[2]
    direct = 0.0
    if facing > 0.0:
        lift = 1.3 * frame.step_m
        direct = facing * sunlit(shade_map, frame, px + lift * nx, py + lift * ny, pz + lift * nz, 0.05 + 0.5 * lift)
    up = 0.5 + 0.5 * nz
    near_ground = 0.55 + 0.45 * min(1.0, max(0.0, pz) / 0.7)
    out_r = r * (direct * light.sun[0] + near_ground * (up * light.horizon[0] + (1 - up) * light.bounce[0]) + emitted)
    out_g = g * (direct * light.sun[1] + near_ground * (up * light.horizon[1] + (1 - up) * light.bounce[1]) + emitted)
    out_b = b * (direct * light.sun[2] + near_ground * (up * light.horizon[2] + (1 - up) * light.bounce[2]) + emitted)
    if gloss > 0.0:
        cos = ox * nx + oy * ny + oz * nz
        rx, ry, rz = ox - 2.0 * cos * nx, oy - 2.0 * cos * ny, oz - 2.0 * cos * nz
        share = gloss * (0.06 + 0.5 * max(0.0, 1.0 + cos) ** 4)
        if rz > 0.0:
            sr, sg, sb = sky_color(light, rx, ry, rz, 0.0)
        else:
            sr, sg, sb = light.bounce[0], light.bounce[1], light.bounce[2]
        shine = max(0.0, rx * light.to_sun[0] + ry * light.to_sun[1] + rz * light.to_sun[2]) ** 60
        shine *= 0.6 * gloss if direct > 0.0 else 0.0
        out_r += share * sr + shine * light.sun[0]
        out_g += share * sg + shine * light.sun[1]
        out_b += share * sb + shine * light.sun[2]
    return out_r, out_g, out_b


@kernel(fastmath=True)
def _lit_ground(roads, decals, setting, shade_map, point, ray, distance):
    """Linear colour of the ground at a point (x, y), seen along the unit direction `ray` from `distance` metres."""
    light = setting.light
    px, py = point
    ox, oy, oz = ray
    flat = math.sqrt(ox * ox + oy * oy) + 1e-9
    across = max(distance * setting.rays.pixel, 0.004)
    length = min(across / max(-oz, 1e-4), 60.0)
    footprint = Footprint((ox / flat, oy / flat), across, length)
    r, g, b, wettable = ground_color(roads, decals, setting.colors, point, footprint)
    direct = light.to_sun[2] * sunlit(shade_map, setting.frame, px, py, 0.0, 0.1)
    wet = light.wet * wettable
    dark = 1.0 - 0.55 * wet
    out_r = dark * r * (direct * light.sun[0] + 0.9 * light.horizon[0])
    out_g = dark * g * (direct * light.sun[1] + 0.9 * light.horizon[1])
    out_b = dark * b * (direct * light.sun[2] + 0.9 * light.horizon[2])
    if wet > 0.0:
        share = wet * (0.03 + 0.42 * (1.0 + oz) ** 5)
        sr, sg, sb = sky_color(light, ox, oy, -oz, 0.0)
        out_r += share * sr
        out_g += share * sg
        out_b += share * sb
    return out_r, out_g, out_b


def pack_setting(setting: Setting) -> np.ndarray:
    """Returns all numbers of a setting in one row of float64; parallel loops take arrays but no named tuples."""

    def flatten(value: Any) -> list[float]:
        return [number for part in value for number in flatten(part)] if isinstance(value, tuple) else [value]

    return np.array(flatten(setting), np.float64)


@kernel(fastmath=True)
def _unpack(n):
    """The inverse of `pack_setting` as tuples, which cost no reference counts."""
    colors = GroundColors(
        (n[0], n[1], n[2]), (n[3], n[4], n[5]), (n[6], n[7], n[8]), (n[9], n[10], n[11]), n[12], int(n[13])
    )
    light = Light(
        (n[14], n[15], n[16]), (n[17], n[18], n[19]), (n[20], n[21], n[22]), (n[23], n[24], n[25]),
        (n[26], n[27], n[28]), n[29], n[30], n[31], n[32], n[33], n[34], int(n[35]),
    )  # fmt: skip
    frame = ShadowFrame(
        (n[36], n[37], n[38]), (n[39], n[40], n[41]), (n[42], n[43], n[44]), (n[45], n[46], n[47]), n[48]
    )
    matrix = (n[52], n[53], n[54], n[55], n[56], n[57], n[58], n[59], n[60])
    return Setting(colors, light, frame, Rays((n[49], n[50], n[51]), matrix, n[61]))


@kernel(fastmath=True)
def _shade_row(v, surfaces, solids, ground, shade_map, setting, out):
    light, origin, rays = setting.light, setting.rays.origin, setting.rays.matrix
    depth, ids, roads, decals = surfaces.depth, surfaces.ids, ground.roads, ground.decals
    for u in range(depth.shape[1]):
        dx = rays[0] * u + rays[1] * v + rays[2]
        dy = rays[3] * u + rays[4] * v + rays[5]
        dz = rays[6] * u + rays[7] * v + rays[8]
        norm = math.sqrt(dx * dx + dy * dy + dz * dz)
        ray = (dx / norm, dy / norm, dz / norm)
        seen = ids[v, u]
        if seen == SKY:
            r, g, b = sky_color(light, ray[0], ray[1], ray[2], light.clouds)
        else:
            t = depth[v, u]
            far = t * norm
            px, py, pz = origin[0] + t * dx, origin[1] + t * dy, origin[2] + t * dz
            if seen == GROUND:
                r, g, b = _lit_ground(roads, decals, setting, shade_map, (px, py), ray, far)
            else:
                r, g, b = _lit_solid(seen, solids, setting, shade_map, (px, py, pz), ray, far * setting.rays.pixel)
            haze = 1.0 - math.exp(-light.haze_per_m * far)
            r += haze * (light.horizon[0] - r)
            g += haze * (light.horizon[1] - g)
            b += haze * (light.horizon[2] - b)
        out[v, u, 0], out[v, u, 1], out[v, u, 2] = r, g, b


@kernel(parallel=True, fastmath=True)
def shade(surfaces, solids, ground, shadow, numbers, out):
    """Fills out (H, W, 3) float32 with linear light.

    surfaces: `Surfaces`; solids: see `table`; ground: `Ground`; shadow: `Shadow`; numbers: see `pack_setting`.
    """
    depth, ids, roads, decals, shade_map = surfaces.depth, surfaces.ids, ground.roads, ground.decals, shadow.depth
    for v in prange(depth.shape[0]):
        setting = _unpack(numbers)
        # Without the cast the row is compiled twice: as a signed number and as the unsigned one of a parallel loop.
        _shade_row(
            np.int64(v), Surfaces(depth, ids), solids, Ground(roads, decals, setting.colors), shade_map, setting, out
        )
