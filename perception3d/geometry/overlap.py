"""Numba kernels for the overlap of rotated rectangles; they need no torch, so that a scorer starts at once.

One box is clipped by the other in the other's own axes (Sutherland and Hodgman 1974, against four axis-parallel lines),
in float64 and in coordinates relative to the two centres, so that large coordinates, slivers and coincident edges are
harmless. Pairs whose circumscribed circles or projections on the axes of a box are apart are never clipped.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]


@njit(cache=True)
def _clip(poly: Floats, other: Floats, count: int, axis: int, sign: float, bound: float) -> int:
    """Keeps the part of `poly` (count, 2) where sign * coordinate <= bound; writes it to `other`, returns its size."""
    kept = 0
    for i in range(count):
        k = i + 1 if i + 1 < count else 0
        a = sign * poly[i, axis] - bound
        b = sign * poly[k, axis] - bound
        if a <= 0.0:
            other[kept, 0] = poly[i, 0]
            other[kept, 1] = poly[i, 1]
            kept += 1
        if (a < 0.0 and b > 0.0) or (a > 0.0 and b < 0.0):
            t = a / (a - b)
            other[kept, 0] = poly[i, 0] + t * (poly[k, 0] - poly[i, 0])
            other[kept, 1] = poly[i, 1] + t * (poly[k, 1] - poly[i, 1])
            kept += 1
    return kept


@njit(cache=True)
def prepare(bev: Floats, low: Floats, high: Floats) -> Floats:
    """Rows (N, 10) that the kernels here take, from bird's-eye boxes (N, 5) that reach from `low` to `high` (N,).

    Columns: x, y, l/2, w/2, cos, sin, circumradius, low, high, volume.
    """
    out = np.empty((bev.shape[0], 10), np.float64)
    for i in range(bev.shape[0]):
        out[i, 0], out[i, 1] = bev[i, 0], bev[i, 1]
        out[i, 2], out[i, 3] = bev[i, 2] * 0.5, bev[i, 3] * 0.5
        out[i, 4], out[i, 5] = math.cos(bev[i, 4]), math.sin(bev[i, 4])
        # A box without area meets nothing: its radius says so.
        real = bev[i, 2] > 0.0 and bev[i, 3] > 0.0
        out[i, 6] = math.hypot(out[i, 2], out[i, 3]) if real else -np.inf
        out[i, 7], out[i, 8] = low[i], high[i]
        out[i, 9] = bev[i, 2] * bev[i, 3] * (high[i] - low[i])
    return out


@njit(cache=True)
def overlap_area(
    a: Floats,
    b: Floats,
    poly: Floats,
    spare: Floats,
) -> float:
    """Overlap in square metres of two rows of `prepare`; `poly` and `spare` are (12, 2) float64 scratch.

    A numba function for use inside other kernels.
    """
    dx, dy, reach = b[0] - a[0], b[1] - a[1], a[6] + b[6]
    if not (reach > 0.0 and dx * dx + dy * dy < reach * reach):
        return 0.0
    al, aw, bl, bw = a[2], a[3], b[2], b[3]
    x, y = a[4] * dx + a[5] * dy, a[4] * dy - a[5] * dx
    c, s = a[4] * b[4] + a[5] * b[5], a[4] * b[5] - a[5] * b[4]
    if abs(x) >= al + abs(c) * bl + abs(s) * bw or abs(y) >= aw + abs(s) * bl + abs(c) * bw:
        return 0.0
    if abs(c * x + s * y) >= bl + abs(c) * al + abs(s) * aw or abs(c * y - s * x) >= bw + abs(s) * al + abs(c) * aw:
        return 0.0
    for k in range(4):
        u = bl if k == 0 or k == 3 else -bl
        v = bw if k < 2 else -bw
        poly[k, 0] = x + c * u - s * v
        poly[k, 1] = y + s * u + c * v
    count = _clip(poly, spare, 4, 0, 1.0, al)
    count = _clip(spare, poly, count, 0, -1.0, al)
    count = _clip(poly, spare, count, 1, 1.0, aw)
    count = _clip(spare, poly, count, 1, -1.0, aw)
    twice = 0.0
    for k in range(1, count - 1):
        ux, uy = poly[k, 0] - poly[0, 0], poly[k, 1] - poly[0, 1]
        vx, vy = poly[k + 1, 0] - poly[0, 0], poly[k + 1, 1] - poly[0, 1]
        twice += ux * vy - uy * vx
    return abs(twice) * 0.5
