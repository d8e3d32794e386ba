"""Hash noise: the same numbers for the same position on every machine and thread."""

from __future__ import annotations

import math

from perception3d.simulation.render.kernel import kernel


@kernel(inline='always', fastmath=True)
def hash_bits(x, y, seed):
    """Returns 32 well mixed bits (int64) of two integers and a seed."""
    h = (x * 374761393 + y * 668265263 + seed * 974711147) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return h ^ (h >> 16)


@kernel(inline='always', fastmath=True)
def hash_unit(x, y, seed):
    """Returns a number in 0..1 for two integers and a seed."""
    return (hash_bits(x, y, seed) & 0xFFFF) / 65535.0


@kernel(fastmath=True)
def value_noise(x, y, seed):
    """Returns smooth noise in 0..1 with features of size 1."""
    fx, fy = math.floor(x), math.floor(y)
    ix, iy = int(fx), int(fy)
    u, v = x - fx, y - fy
    u, v = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v)
    low = hash_unit(ix, iy, seed) * (1.0 - u) + hash_unit(ix + 1, iy, seed) * u
    high = hash_unit(ix, iy + 1, seed) * (1.0 - u) + hash_unit(ix + 1, iy + 1, seed) * u
    return low * (1.0 - v) + high * v


@kernel(inline='always', fastmath=True)
def cover(x, low, high, width):
    """Returns the share of the interval of length `width` around x that lies in [low, high]."""
    half = 0.5 * width
    inner = min(high, x + half) - max(low, x - half)
    return inner / width if inner > 0.0 else 0.0


@kernel(fastmath=True)
def cover_periodic(x, on, period, width):
    """Returns the share of the interval around x that lies in one of the bands [n period, n period + on]."""
    if width >= period:
        return on / period
    phase = x - math.floor(x / period) * period
    return (
        cover(phase, 0.0, on, width)
        + cover(phase, period, period + on, width)
        + cover(phase, -period, on - period, width)
    )


@kernel(fastmath=True)
def solid_noise(x, y, z, seed):
    """Returns smooth noise in 0..1 in space, with features of size 1."""
    floor = math.floor(z)
    share = z - floor
    share = share * share * (3.0 - 2.0 * share)
    low, high = value_noise(x, y, seed + 71 * int(floor)), value_noise(x, y, seed + 71 * int(floor) + 71)
    return low + share * (high - low)
