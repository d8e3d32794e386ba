"""The painted ground: roads, pavements, markings and lots, evaluated per point and filtered by the pixel's footprint."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from perception3d.simulation.render.noise import cover, cover_periodic, value_noise

ROUGH, WALK, CURB, ASPHALT, PAINTED = 0, 1, 2, 3, 4
"""What the ground is made of at a point."""

REFLECTIVITY = np.array([0.16, 0.14, 0.18, 0.06, 0.34], np.float32)
"""Share of a laser pulse that the five kinds of ground send back. Plausible values of our own."""


class GroundArrays(NamedTuple):
    """The ground as the kernels read it.

    roads (R, 10): type (0 line, 1 arc), x, y, cos and sin of the heading at s = 0, signed radius (left turn positive),
    lowest and highest s, half width of the carriageway, distance of the outer pavement edge.
    decals (D, 13): road, s0, s1, d0, d1, dash length and period along s, bar width and period along d, red, green,
    blue, opacity. colors (4, 3): lots, pavement, curb, asphalt. curb_band: length of black and white bands, 0 for none.
    """

    roads: np.ndarray
    decals: np.ndarray
    colors: np.ndarray
    curb_band: float
    seed: int


@njit(cache=True)
def road_coordinates(road, x, y):
    """Returns (s, d, cos, sin): metres along a road and to the left of its axis, and the road's direction there."""
    dx, dy = x - road[1], y - road[2]
    if road[0] == 0.0:
        return dx * road[3] + dy * road[4], dy * road[3] - dx * road[4], road[3], road[4]
    radius = road[5]
    wx, wy = dx + radius * road[4], dy - radius * road[3]
    ux, uy = radius * road[4], -radius * road[3]
    angle = math.atan2(ux * wy - uy * wx, ux * wx + uy * wy)
    sign = 1.0 if radius > 0.0 else -1.0
    cos, sin = math.cos(angle), math.sin(angle)
    return (
        radius * angle,
        radius - sign * math.sqrt(wx * wx + wy * wy),
        road[3] * cos - road[4] * sin,
        road[4] * cos + road[3] * sin,
    )


@njit(cache=True)
def _surface(ground, x, y, width):
    """Kind of ground without paint, and shares of the three made surfaces (asphalt, curb, pavement) in the footprint."""
    asphalt, curb, walk = 0.0, 0.0, 0.0
    for r in range(len(ground.roads)):
        road = ground.roads[r]
        s, d, _, _ = road_coordinates(road, x, y)
        along = cover(s, road[6], road[7], width)
        if along <= 0.0 or abs(d) > road[9] + width:
            continue
        asphalt = max(asphalt, along * cover(d, -road[8], road[8], width))
        band = cover(d, -road[8] - 0.25, road[8] + 0.25, width) - cover(d, -road[8], road[8], width)
        if ground.curb_band > 0.0:
            band *= 2.0 * cover_periodic(s, 0.5 * ground.curb_band, ground.curb_band, width)
        curb = max(curb, along * band)
        walk = max(walk, along * cover(d, -road[9], road[9], width))
    curb = min(curb, 1.0 - asphalt)
    walk = max(walk - asphalt, 0.0)
    return asphalt, min(curb, walk), max(walk - curb, 0.0)


@njit(cache=True)
def _paint(ground, x, y, view_x, view_y, across, length):
    """Blended paint (red, green, blue, opacity) at a point whose footprint is `length` along the view, `across` it."""
    red, green, blue, clear = 0.0, 0.0, 0.0, 1.0
    last, s, d, size_s, size_d = -1, 0.0, 0.0, 1.0, 1.0
    for i in range(len(ground.decals)):
        decal = ground.decals[i]
        number = int(decal[0])
        if number != last:
            s, d, cos, sin = road_coordinates(ground.roads[number], x, y)
            along = abs(cos * view_x + sin * view_y)
            side = math.sqrt(max(0.0, 1.0 - along * along))
            size_s = along * length + side * across
            size_d = side * length + along * across
            last = number
        if s < decal[1] - size_s or s > decal[2] + size_s or d < decal[3] - size_d or d > decal[4] + size_d:
            continue
        share = decal[12] * cover(s, decal[1], decal[2], size_s) * cover(d, decal[3], decal[4], size_d)
        if decal[6] > 0.0:
            share *= cover_periodic(s - decal[1], decal[5], decal[6], size_s)
        if decal[8] > 0.0:
            share *= cover_periodic(d - decal[3], decal[7], decal[8], size_d)
        red += share * (decal[9] - red)
        green += share * (decal[10] - green)
        blue += share * (decal[11] - blue)
        clear *= 1.0 - share
    return red, green, blue, 1.0 - clear


@njit(cache=True)
def ground_color(ground, x, y, view_x, view_y, across, length):
    """Returns linear (red, green, blue) of the ground and its wettable share; sizes in metres, view a unit vector."""
    width = max(0.02, 0.5 * (across + min(length, 4.0)))
    asphalt, curb, walk = _surface(ground, x, y, width)
    rough = max(0.0, 1.0 - asphalt - curb - walk)
    c = ground.colors
    coarse = value_noise(x * 0.35, y * 0.35, ground.seed)
    fine = 0.5 if length > 0.6 else value_noise(x * 9.0, y * 9.0, ground.seed + 1)
    grain = 0.5 if length > 0.12 else value_noise(x * 45.0, y * 45.0, ground.seed + 2)
    lots = 0.65 + 0.5 * coarse + 0.25 * (fine - 0.5)
    tar = 0.85 + 0.2 * coarse + 0.12 * (fine - 0.5) + 0.2 * (grain - 0.5)
    slab = 0.9 + 0.1 * coarse + 0.1 * (grain - 0.5)
    if length < 0.8 and walk > 0.0:
        slab *= 1.0 - 0.18 * max(cover_periodic(x, 0.03, 1.2, width), cover_periodic(y, 0.03, 1.2, width))
    red, green, blue, paint = _paint(ground, x, y, view_x, view_y, across, length)
    worn = paint * (0.8 + 0.2 * fine)
    out_r = rough * lots * c[0, 0] + walk * slab * c[1, 0] + curb * c[2, 0] + asphalt * tar * c[3, 0]
    out_g = rough * lots * c[0, 1] + walk * slab * c[1, 1] + curb * c[2, 1] + asphalt * tar * c[3, 1]
    out_b = rough * lots * c[0, 2] + walk * slab * c[1, 2] + curb * c[2, 2] + asphalt * tar * c[3, 2]
    keep = 1.0 - worn
    return out_r * keep + red * worn, out_g * keep + green * worn, out_b * keep + blue * worn, asphalt + 0.5 * walk


@njit(cache=True)
def ground_kind(ground, x, y):
    """Returns what the ground is at a point: ROUGH, WALK, CURB, ASPHALT or PAINTED."""
    asphalt, curb, walk = _surface(ground, x, y, 0.02)
    red, green, blue, paint = _paint(ground, x, y, 1.0, 0.0, 0.02, 0.02)
    if paint > 0.5 and red + green + blue > 0.9:
        return 4
    if asphalt >= 0.5:
        return 3
    if curb >= 0.5:
        return 2
    return 1 if walk >= 0.5 else 0


@njit(cache=True)
def drivable_mask(ground, yaw, shift, step, height, width):
    """Returns (height, width) uint8, 255 on carriageways and pavements; row 0 is the highest y, as in map images.

    The mask's own frame is the ground's frame turned by `yaw` and moved by `shift` (2,); cells are `step` metres wide.
    """
    mask = np.zeros((height, width), np.uint8)
    cos, sin = math.cos(yaw), math.sin(yaw)
    for row in range(height):
        for column in range(width):
            x, y = (column + 0.5) * step - shift[0], (height - row - 0.5) * step - shift[1]
            x, y = cos * x + sin * y, cos * y - sin * x
            for r in range(len(ground.roads)):
                road = ground.roads[r]
                s, d, _, _ = road_coordinates(road, x, y)
                if road[6] <= s <= road[7] and abs(d) <= road[9]:
                    mask[row, column] = 255
                    break
    return mask
