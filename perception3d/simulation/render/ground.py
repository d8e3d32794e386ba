"""The painted ground: roads, sidewalks, markings and terrain, per point and filtered by the pixel's footprint."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.noise import cover, cover_periodic, value_noise
from perception3d.simulation.render.surfaces import Surface

# Kernels take plain numbers.
TERRAIN, SIDEWALK, CURB, ROAD, MARKING, PARKING = (surface.value for surface in list(Surface)[:6])

REFLECTIVITY = np.array([0.16, 0.14, 0.18, 0.06, 0.34, 0.10], np.float32)
"""Share of a laser pulse that these surfaces send back. Plausible values of our own."""

CURB_WIDTH_M = 0.25

MARKING_BRIGHTNESS = 0.5
"""Red + green + blue from which a decal is a marking (yellow paint 1.1, white 1.8) and not a patch of asphalt."""

Color = tuple[float, float, float]


class GroundColors(NamedTuple):
    """Colours of the ground, linear RGB; length of black and white curb bands in metres, 0 for none; noise seed.

    A tuple of numbers costs a kernel nothing; an array in a tuple may cost a reference count at each call.
    """

    terrain: Color
    sidewalk: Color
    curb: Color
    asphalt: Color
    curb_band: float
    seed: int


class Ground(NamedTuple):
    """The ground as the kernels read it.

    roads (R, 12): type (0 line, 1 arc), x, y, cos and sin of the heading at s = 0, signed radius (left turn positive),
    lowest and highest s, half width of the carriageway, distance of the outer sidewalk edge from the axis, first and
    end row of the road's paint in `decals`.
    decals (D, 13): road, s0, s1, d0, d1, dash length and period along s, bar width and period along d, red, green,
    blue, opacity.
    areas (A, 7): road, s0, s1, d0, d1, the surface that is there otherwise, the surface of the area. A LiDAR sees them,
    a camera does not.
    """

    roads: np.ndarray
    decals: np.ndarray
    colors: GroundColors
    areas: np.ndarray = np.zeros((0, 7))


class Footprint(NamedTuple):
    """The patch of ground that a pixel covers: viewing direction on the ground (unit vector), its width across this
    direction and its length along it in metres.
    """

    direction: tuple[float, float]
    across: float
    length: float


@kernel(fastmath=True)
def road_coordinates(roads, r, x, y):
    """Returns (s, d, cos, sin): metres along road r and to the left of its axis, and the road's direction there."""
    cos, sin = roads[r, 3], roads[r, 4]
    dx, dy = x - roads[r, 1], y - roads[r, 2]
    if roads[r, 0] == 0.0:
        return dx * cos + dy * sin, dy * cos - dx * sin, cos, sin
    radius = roads[r, 5]
    ux, uy = radius * sin, -radius * cos
    wx, wy = dx + ux, dy + uy
    angle = math.atan2(ux * wy - uy * wx, ux * wx + uy * wy)
    sign = 1.0 if radius > 0.0 else -1.0
    distance = math.sqrt(wx * wx + wy * wy)
    scale = sign / max(distance, 1e-6)
    return radius * angle, radius - sign * distance, -wy * scale, wx * scale


@kernel(fastmath=True)
def _paint(roads, decals, r, point, size, mixed):
    """Blends road r's paint over `mixed` (red, green, blue, clear share) for a patch of `size` at `point` (s, d)."""
    s, d = point
    size_s, size_d = size
    red, green, blue, clear = mixed
    for i in range(int(roads[r, 10]), int(roads[r, 11])):
        if s < decals[i, 1] - size_s or s > decals[i, 2] + size_s:
            continue
        if d < decals[i, 3] - size_d or d > decals[i, 4] + size_d:
            continue
        share = decals[i, 12] * cover(s, decals[i, 1], decals[i, 2], size_s)
        share *= cover(d, decals[i, 3], decals[i, 4], size_d)
        if decals[i, 6] > 0.0:
            share *= cover_periodic(s - decals[i, 1], decals[i, 5], decals[i, 6], size_s)
        if decals[i, 8] > 0.0:
            share *= cover_periodic(d - decals[i, 3], decals[i, 7], decals[i, 8], size_d)
        red += share * (decals[i, 9] - red)
        green += share * (decals[i, 10] - green)
        blue += share * (decals[i, 11] - blue)
        clear *= 1.0 - share
    return red, green, blue, clear


@kernel(fastmath=True)
def _layers(roads, decals, colors, point, footprint, width):
    """Shares of asphalt, curb and sidewalk in a footprint, and the blended paint (red, green, blue, clear share)."""
    x, y = point
    view_x, view_y = footprint.direction
    asphalt, curb, sidewalk = 0.0, 0.0, 0.0
    mixed = (0.0, 0.0, 0.0, 1.0)
    for r in range(len(roads)):
        s, d, cos, sin = road_coordinates(roads, r, x, y)
        if abs(d) > roads[r, 9] + width or s < roads[r, 6] or s > roads[r, 7]:
            continue
        half = roads[r, 8]
        tar = cover(d, -half, half, width)
        asphalt = max(asphalt, tar)
        sidewalk = max(sidewalk, cover(d, -roads[r, 9], roads[r, 9], width))
        if tar < 1.0:
            band = cover(d, -half - CURB_WIDTH_M, half + CURB_WIDTH_M, width) - tar
            if colors.curb_band > 0.0:
                band *= 2.0 * cover_periodic(s, 0.5 * colors.curb_band, colors.curb_band, width)
            curb = max(curb, band)
        if tar > 0.0:
            along = abs(cos * view_x + sin * view_y)
            side = math.sqrt(max(0.0, 1.0 - along * along))
            size_s = along * footprint.length + side * footprint.across
            size_d = side * footprint.length + along * footprint.across
            mixed = _paint(roads, decals, r, (s, d), (size_s, size_d), mixed)
    curb = min(curb, 1.0 - asphalt)
    sidewalk = max(sidewalk - asphalt, 0.0)
    curb = min(curb, sidewalk)
    return asphalt, curb, sidewalk - curb, mixed


@kernel(fastmath=True)
def ground_color(roads, decals, colors, point, footprint):
    """Returns linear (red, green, blue) of the ground at a point (x, y) and its wettable share."""
    x, y = point
    length = footprint.length
    width = max(0.02, 0.5 * (footprint.across + min(length, 4.0)))
    asphalt, curb, sidewalk, mixed = _layers(roads, decals, colors, point, footprint, width)
    rough = max(0.0, 1.0 - asphalt - curb - sidewalk)
    coarse = value_noise(x * 0.35, y * 0.35, colors.seed)
    fine = 0.5 if length > 0.6 else value_noise(x * 9.0, y * 9.0, colors.seed + 1)
    grain = 0.5 if length > 0.12 else value_noise(x * 45.0, y * 45.0, colors.seed + 2)
    terrain = rough * (0.65 + 0.5 * coarse + 0.25 * (fine - 0.5))
    tar = asphalt * (0.85 + 0.2 * coarse + 0.12 * (fine - 0.5) + 0.2 * (grain - 0.5))
    slab = sidewalk * (0.9 + 0.1 * coarse + 0.1 * (grain - 0.5))
    if length < 0.8 and sidewalk > 0.0:
        slab *= 1.0 - 0.18 * max(cover_periodic(x, 0.03, 1.2, width), cover_periodic(y, 0.03, 1.2, width))
    worn = (1.0 - mixed[3]) * (0.8 + 0.2 * fine)
    keep = 1.0 - worn
    return (
        keep
        * (terrain * colors.terrain[0] + slab * colors.sidewalk[0] + curb * colors.curb[0] + tar * colors.asphalt[0])
        + mixed[0] * worn,
        keep
        * (terrain * colors.terrain[1] + slab * colors.sidewalk[1] + curb * colors.curb[1] + tar * colors.asphalt[1])
        + mixed[1] * worn,
        keep
        * (terrain * colors.terrain[2] + slab * colors.sidewalk[2] + curb * colors.curb[2] + tar * colors.asphalt[2])
        + mixed[2] * worn,
        asphalt + 0.5 * sidewalk,
    )


@kernel(fastmath=True)
def echoing_surface(roads, decals, colors, x, y):
    """Returns the surface whose reflectivity applies to a laser pulse at a point (x, y).

    It differs from `ground_surface` where the brightness does: worn or dark paint counts as road, the dark bands of a
    curb count as sidewalk.
    """
    asphalt, curb, sidewalk, mixed = _layers(roads, decals, colors, (x, y), Footprint((1.0, 0.0), 0.02, 0.02), 0.02)
    if mixed[3] < 0.5 and mixed[0] + mixed[1] + mixed[2] > 0.9:
        return MARKING
    if asphalt >= 0.5:
        return ROAD
    if curb >= 0.5:
        return CURB
    return SIDEWALK if sidewalk >= 0.5 else TERRAIN


@kernel()
def _in_bands(x, on, period):
    """Tells whether x lies in a band [n period, n period + on]; without a period, everything does."""
    return period <= 0.0 or x - math.floor(x / period) * period <= on


@kernel()
def _on_marking(roads, decals, r, s, d):
    """Tells whether road r has a marking at (s, d)."""
    for i in range(int(roads[r, 10]), int(roads[r, 11])):
        inside = decals[i, 1] <= s <= decals[i, 2] and decals[i, 3] <= d <= decals[i, 4]
        if not inside or decals[i, 9] + decals[i, 10] + decals[i, 11] < MARKING_BRIGHTNESS:
            continue
        if _in_bands(s - decals[i, 1], decals[i, 5], decals[i, 6]) and _in_bands(
            d - decals[i, 3], decals[i, 7], decals[i, 8]
        ):
            return True
    return False


@kernel()
def ground_surface(roads, decals, x, y):
    """Returns what the ground is made of at a point (x, y): TERRAIN, SIDEWALK, CURB, ROAD or MARKING.

    Where streets cross, the carriageway of one covers the sidewalk of the other.
    """
    found = TERRAIN
    for r in range(len(roads)):
        s, d, _, _ = road_coordinates(roads, r, x, y)
        outside = abs(d) - roads[r, 8]
        if abs(d) > roads[r, 9] or s < roads[r, 6] or s > roads[r, 7]:
            continue
        if outside > 0.0:
            found = max(found, CURB if outside <= CURB_WIDTH_M else SIDEWALK)
        else:
            found = max(found, MARKING if _on_marking(roads, decals, r, s, d) else ROAD)
    return found


@kernel()
def raised_mask(roads, decals, places):
    """Returns (N,) uint8, 1 where the ground at a place (N, 2) is not a road: sidewalks and terrain may be raised."""
    mask = np.zeros(len(places), np.uint8)
    for i in range(len(places)):
        mask[i] = ground_surface(roads, decals, places[i, 0], places[i, 1]) < ROAD
    return mask


@kernel()
def area_surface(roads, areas, found, x, y):
    """Returns the surface of the area at a point (x, y) of surface `found`, which stays where there is none."""
    for i in range(len(areas)):
        if areas[i, 5] != found:
            continue
        s, d, _, _ = road_coordinates(roads, int(areas[i, 0]), x, y)
        if areas[i, 1] <= s <= areas[i, 2] and areas[i, 3] <= d <= areas[i, 4]:
            return int(areas[i, 6])
    return found


@kernel(fastmath=True)
def drivable_mask(roads, yaw, shift, step, height, width):
    """Returns (height, width) uint8, 255 on carriageways and sidewalks; row 0 is the highest y, as in map images.

    The mask's own frame is the ground's frame rotated by `yaw` and moved by `shift` (2,); cells are `step` metres wide.
    """
    mask = np.zeros((height, width), np.uint8)
    cos, sin = math.cos(yaw), math.sin(yaw)
    for row in range(height):
        for column in range(width):
            x, y = (column + 0.5) * step - shift[0], (height - row - 0.5) * step - shift[1]
            x, y = cos * x + sin * y, cos * y - sin * x
            for r in range(len(roads)):
                s, d, _, _ = road_coordinates(roads, r, x, y)
                if roads[r, 6] <= s <= roads[r, 7] and abs(d) <= roads[r, 9]:
                    mask[row, column] = 255
                    break
    return mask
