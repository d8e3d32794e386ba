"""Where a ray hits a solid in the solid's own unit frame (see `primitives`): o, d: origin and
direction of the ray, each a tuple x, y, z."""

from __future__ import annotations

import math

from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.primitives import BOX, ELLIPSOID, FRUSTUM

MISS = 1e30


@kernel(inline='always')
def _clip(enter, leave, base, slope):
    """Cuts [enter, leave] down to where base + t * slope <= 1."""
    if slope < 0.0:
        t = (1.0 - base) / slope
        if t > enter:
            enter = t
    elif slope > 0.0:
        t = (1.0 - base) / slope
        if t < leave:
            leave = t
    elif base > 1.0:
        leave = -MISS
    return enter, leave


@kernel()
def hit_box(o, d, taper):
    """Returns the ray parameter where o + t d enters a tapered box, MISS where it does not."""
    ox, oy, oz = o
    dx, dy, dz = d
    front, back, side = taper
    rise, rise_slope = 0.5 * (oz + 1.0), 0.5 * dz
    enter, leave = _clip(-MISS, MISS, oz, dz)
    enter, leave = _clip(enter, leave, -oz, -dz)
    enter, leave = _clip(enter, leave, ox + front * rise, dx + front * rise_slope)
    enter, leave = _clip(enter, leave, -ox + back * rise, -dx + back * rise_slope)
    if enter > leave:
        return MISS
    enter, leave = _clip(enter, leave, oy + side * rise, dy + side * rise_slope)
    enter, leave = _clip(enter, leave, -oy + side * rise, -dy + side * rise_slope)
    if enter > leave:
        return MISS
    return enter


@kernel()
def hit_ellipsoid(o, d):
    """Returns the ray parameter where o + t d enters the unit sphere, MISS where it does not."""
    ox, oy, oz = o
    dx, dy, dz = d
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - 1.0
    inside = b * b - a * c
    if inside < 0.0:
        return MISS
    return (-b - math.sqrt(inside)) / a


@kernel()
def hit_frustum(o, d, top):
    """Returns the ray parameter where o + t d enters a frustum (radius 1 below, `top` above), MISS if nowhere."""
    ox, oy, oz = o
    dx, dy, dz = d
    best = MISS
    mean, slope = 0.5 * (1.0 + top), 0.5 * (top - 1.0)
    radius, radius_slope = mean + slope * oz, slope * dz
    a = dx * dx + dy * dy - radius_slope * radius_slope
    b = ox * dx + oy * dy - radius * radius_slope
    c = ox * ox + oy * oy - radius * radius
    inside = b * b - a * c
    if inside >= 0.0 and a != 0.0:
        root = math.sqrt(inside)
        for sign in (-1.0, 1.0):
            t = (-b + sign * root) / a
            if abs(oz + t * dz) <= 1.0 and t < best and t > 0.0:
                best = t
    if dz != 0.0:
        t = (-1.0 - oz) / dz if dz > 0.0 else (1.0 - oz) / dz
        x, y = ox + t * dx, oy + t * dy
        limit = 1.0 if dz > 0.0 else top
        if 0.0 < t < best and x * x + y * y <= limit * limit:
            best = t
    return best


@kernel()
def hit(kind, o, d, taper):
    """Returns the ray parameter of the first entry into a solid of `kind`, MISS where there is none."""
    if kind == BOX:
        return hit_box(o, d, taper)
    if kind == ELLIPSOID:
        return hit_ellipsoid(o, d)
    return hit_frustum(o, d, taper[0])


@kernel()
def unit_normal(kind, point, taper):
    """Returns the outward normal (not of unit length) in the unit frame at a surface point of a solid."""
    x, y, z = point
    taper_0, taper_1, taper_2 = taper
    if kind == ELLIPSOID:
        return x, y, z
    if kind == FRUSTUM:
        slope = 0.5 * (taper_0 - 1.0)
        radius = 0.5 * (1.0 + taper_0) + slope * z
        wall = abs(math.sqrt(x * x + y * y) - radius)
        if 1.0 - abs(z) < wall:
            return 0.0, 0.0, 1.0 if z > 0.0 else -1.0
        return x, y, -slope * radius
    rise = 0.5 * (z + 1.0)
    best, nx, ny, nz = z, 0.0, 0.0, 1.0
    if -z > best:
        best, nz = -z, -1.0
    level = x + taper_0 * rise
    if level > best:
        best, nx, nz = level, 1.0, 0.5 * taper_0
    level = -x + taper_1 * rise
    if level > best:
        best, nx, nz = level, -1.0, 0.5 * taper_1
    level = y + taper_2 * rise
    if level > best:
        best, nx, ny, nz = level, 0.0, 1.0, 0.5 * taper_2
    level = -y + taper_2 * rise
    if level > best:
        nx, ny, nz = 0.0, -1.0, 0.5 * taper_2
    return nx, ny, nz
