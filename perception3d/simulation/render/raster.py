"""Depth and identity of every pixel: each solid is tested only inside its own screen rectangle.

Rows are dealt to threads in strides, so that sky and street are shared evenly. The ground (z = 0) is a plane, which
needs no test per solid. A ray's parameter is its depth along the optical axis, in metres.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from perception3d.simulation.render.hits import hit
from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.primitives import Primitives

NEAR_M = 0.15
FAR_M = 1e6
SKY, GROUND = -2, -1
STRIDE = 48


class View(NamedTuple):
    """Solids as one image sees them; M of them survive the culling, near ones first.

    solid (M,) int32 index into the solids; rect (M, 4) int32 inclusive column and row bounds; nearest (M,) least
    possible depth; kind (M,); taper (M, 3); start, start_u and start_v (M, 3): ray origin in the unit frame = start +
    u * start_u + v * start_v; ray, ray_u, ray_v (M, 3): direction = ray + u * ray_u + v * ray_v.
    """

    solid: np.ndarray
    rect: np.ndarray
    nearest: np.ndarray
    kind: np.ndarray
    taper: np.ndarray
    start: np.ndarray
    start_u: np.ndarray
    start_v: np.ndarray
    ray: np.ndarray
    ray_u: np.ndarray
    ray_v: np.ndarray


def _rect_on_image(bounds: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    limits = np.array([width, width, height, height], float)
    # Far outside values would overflow int32; the cut keeps them outside the image.
    bounds = np.clip(bounds, -10, limits + 10)
    rect = np.empty(bounds.shape, np.int32)
    rect[:, 0::2] = np.maximum(np.floor(bounds[:, 0::2] - 0.01), 0)
    rect[:, 1::2] = np.minimum(np.ceil(bounds[:, 1::2] + 0.01), limits[1::2] - 1)
    return rect, (rect[:, 0] <= rect[:, 1]) & (rect[:, 2] <= rect[:, 3])


def _into_unit(solids: Primitives, keep: np.ndarray) -> np.ndarray:
    return solids.axes[keep].astype(np.float64).transpose(0, 2, 1) / solids.half[keep][:, :, None].astype(np.float64)


def _view(solids: Primitives, order: np.ndarray, rect: np.ndarray, nearest: np.ndarray, parts: list) -> View:
    arrays = [np.ascontiguousarray(part, np.float32) for part in parts]
    return View(
        order.astype(np.int32), rect[order], nearest[order].astype(np.float32), solids.kind[order], solids.taper[order],
        *arrays,
    )  # fmt: skip


@kernel()
def _corner(center, axes, half, i, c, rotation, origin):
    """Camera-frame position of corner c (bits 0, 1, 2 choose the side along each axis) of solid i's bounding cube."""
    x, y, z = center[i, 0] - origin[0], center[i, 1] - origin[1], center[i, 2] - origin[2]
    for j in range(3):
        extent = half[i, j] if (c >> j) & 1 else -half[i, j]
        x += axes[i, 0, j] * extent
        y += axes[i, 1, j] * extent
        z += axes[i, 2, j] * extent
    return (
        rotation[0, 0] * x + rotation[1, 0] * y + rotation[2, 0] * z,
        rotation[0, 1] * x + rotation[1, 1] * y + rotation[2, 1] * z,
        rotation[0, 2] * x + rotation[1, 2] * y + rotation[2, 2] * z,
    )


@kernel()
def _screen_bounds(center, axes, half, rotation, origin, k):
    """Bounds (N, 4) in pixels, least and greatest depth (N,) of the solids' cubes, cut at the near plane."""
    count = len(center)
    bounds = np.empty((count, 4))
    nearest, farthest = np.empty(count), np.empty(count)
    spot = np.empty((8, 3))
    for i in range(count):
        nearest[i], farthest[i] = 1e9, -1e9
        bounds[i, 0], bounds[i, 1], bounds[i, 2], bounds[i, 3] = 1e9, -1e9, 1e9, -1e9
        for c in range(8):
            spot[c, 0], spot[c, 1], spot[c, 2] = _corner(center, axes, half, i, c, rotation, origin)
            nearest[i] = min(nearest[i], spot[c, 2])
            farthest[i] = max(farthest[i], spot[c, 2])
        if farthest[i] <= NEAR_M:
            continue
        for c in range(8):
            if spot[c, 2] >= NEAR_M:
                _widen(bounds, i, spot[c, 0], spot[c, 1], spot[c, 2], k)
            for j in range(3):
                other = c ^ (1 << j)
                if spot[c, 2] >= NEAR_M or spot[other, 2] <= NEAR_M:
                    continue
                share = (NEAR_M - spot[c, 2]) / (spot[other, 2] - spot[c, 2])
                x = spot[c, 0] + share * (spot[other, 0] - spot[c, 0])
                y = spot[c, 1] + share * (spot[other, 1] - spot[c, 1])
                _widen(bounds, i, x, y, NEAR_M, k)
        nearest[i] = max(nearest[i], NEAR_M)
    return bounds, nearest, farthest


@kernel()
def _widen(bounds, i, x, y, depth, k):
    u, v = k[0, 0] * x / depth + k[0, 2], k[1, 1] * y / depth + k[1, 2]
    bounds[i, 0], bounds[i, 1] = min(bounds[i, 0], u), max(bounds[i, 1], u)
    bounds[i, 2], bounds[i, 3] = min(bounds[i, 2], v), max(bounds[i, 3], v)


def perspective_view(
    solids: Primitives, world_from_cam: np.ndarray, k: np.ndarray, height: int, width: int, max_depth_m: float
) -> View:
    """Prepares the solids for a pinhole image; `k` is (3, 3), integer pixel coordinates are pixel centres."""
    rotation, origin = np.ascontiguousarray(world_from_cam[:3, :3]), np.ascontiguousarray(world_from_cam[:3, 3])
    bounds, nearest, farthest = _screen_bounds(solids.center, solids.axes, solids.half, rotation, origin, k)
    rect, on_image = _rect_on_image(bounds, height, width)
    keep = np.flatnonzero(on_image & (farthest > NEAR_M) & (nearest < max_depth_m))
    keep = keep[np.argsort(nearest[keep], kind='stable')]
    into = _into_unit(solids, keep)
    start = np.einsum('nij,nj->ni', into, origin - solids.center[keep])
    directions = into @ (rotation @ np.linalg.inv(k))
    zero = np.zeros_like(start)
    rays = [directions[:, :, 2], directions[:, :, 0], directions[:, :, 1]]
    return _view(solids, keep, rect, nearest, [start, zero, zero, *rays])


def parallel_view(
    solids: Primitives, corner: np.ndarray, step_u: np.ndarray, step_v: np.ndarray, along: np.ndarray, shape: tuple
) -> View:
    """Prepares the solids for parallel rays along `along` (3,) that start at corner + u * step_u + v * step_v."""
    offsets = solids.corners().astype(np.float64) - corner
    u = offsets @ step_u / (step_u @ step_u)
    v = offsets @ step_v / (step_v @ step_v)
    nearest = (offsets @ along).min(1)
    bounds = np.stack([u.min(1), u.max(1), v.min(1), v.max(1)], axis=1)
    rect, on_image = _rect_on_image(bounds, *shape)
    keep = np.flatnonzero(on_image)
    keep = keep[np.argsort(nearest[keep], kind='stable')]
    into = _into_unit(solids, keep)
    start = np.einsum('nij,nj->ni', into, corner - solids.center[keep])
    zero = np.zeros_like(start)
    parts = [start, into @ step_u, into @ step_v, into @ along, zero, zero]
    return _view(solids, keep, rect, nearest, parts)


@kernel()
def _fill_rows(rows, view, i, depth, ids):
    """Draws solid i into rows rows[0], rows[0] + STRIDE, .. of the depth and identity images."""
    kind, near = view.kind[i], view.nearest[i]
    taper = (view.taper[i, 0], view.taper[i, 1], view.taper[i, 2])
    for v in range(rows, view.rect[i, 3] + 1, STRIDE):
        ax = view.start[i, 0] + v * view.start_v[i, 0]
        ay = view.start[i, 1] + v * view.start_v[i, 1]
        az = view.start[i, 2] + v * view.start_v[i, 2]
        bx = view.ray[i, 0] + v * view.ray_v[i, 0]
        by = view.ray[i, 1] + v * view.ray_v[i, 1]
        bz = view.ray[i, 2] + v * view.ray_v[i, 2]
        for u in range(view.rect[i, 0], view.rect[i, 1] + 1):
            if depth[v, u] <= near:
                continue
            start = (ax + u * view.start_u[i, 0], ay + u * view.start_u[i, 1], az + u * view.start_u[i, 2])
            ray = (bx + u * view.ray_u[i, 0], by + u * view.ray_u[i, 1], bz + u * view.ray_u[i, 2])
            t = hit(kind, start, ray, taper)
            if t > NEAR_M and t < depth[v, u]:
                depth[v, u] = t
                ids[v, u] = view.solid[i]


@kernel(parallel=True)
def rasterize(view, depth, ids):
    """Draws every solid of `view` into `depth` (H, W) float32 and `ids` (H, W) int32, which hold the background."""
    for lane in prange(STRIDE):
        for i in range(len(view.solid)):
            first = view.rect[i, 2]
            rows = first + (lane - first) % STRIDE
            if rows <= view.rect[i, 3]:
                _fill_rows(rows, view, i, depth, ids)


@kernel(parallel=True)
def lay_ground(depth, ids, origin_z, down, down_u, down_v, max_depth):
    """Fills an empty image: rays that point down (down + u * down_u + v * down_v < 0) hit the ground, others none."""
    height, width = depth.shape
    for v in prange(height):
        for u in range(width):
            slope = down + u * down_u + v * down_v
            t = -origin_z / slope if slope < 0.0 else FAR_M
            far = t > max_depth
            depth[v, u] = FAR_M if far else t
            ids[v, u] = SKY if far else GROUND


@kernel()
def count_owner_pixels(view, solid_owner, wanted, rect, ids, step):
    """Counts one owner's pixels, sampled each `step` pixels in `rect`: (covered without all others, visible)."""
    covered = 0
    visible = 0
    for v in range(rect[2], rect[3] + 1, step):
        for u in range(rect[0], rect[1] + 1, step):
            seen = ids[v, u]
            if seen >= 0 and solid_owner[seen] == wanted:
                covered += 1
                visible += 1
                continue
            for i in range(len(view.solid)):
                if solid_owner[view.solid[i]] != wanted:
                    continue
                r = view.rect[i]
                if u < r[0] or u > r[1] or v < r[2] or v > r[3]:
                    continue
                start = (view.start[i, 0], view.start[i, 1], view.start[i, 2])
                ray = (
                    view.ray[i, 0] + u * view.ray_u[i, 0] + v * view.ray_v[i, 0],
                    view.ray[i, 1] + u * view.ray_u[i, 1] + v * view.ray_v[i, 1],
                    view.ray[i, 2] + u * view.ray_u[i, 2] + v * view.ray_v[i, 2],
                )
                taper = (view.taper[i, 0], view.taper[i, 1], view.taper[i, 2])
                if NEAR_M < hit(view.kind[i], start, ray, taper) < FAR_M:
                    covered += 1
                    break
    return covered, visible


def owner_visibility(view: View, owners: np.ndarray, ids: np.ndarray, count: int, samples: int = 24) -> np.ndarray:
    """Returns (count, 2) pixels per agent: what it would cover without all others, and what is visible of it.

    Each agent's screen rectangle is sampled on a grid of at most `samples` x `samples` points; counts are scaled back.
    """
    result = np.zeros((count, 2))
    seen_owners = owners[view.solid]
    for owner in np.unique(seen_owners[seen_owners >= 0]):
        rects = view.rect[seen_owners == owner]
        low, high = rects.min(0), rects.max(0)
        rect = np.array([low[0], high[1], low[2], high[3]], np.int32)
        span = max(rect[1] - rect[0], rect[3] - rect[2]) + 1
        step = max(1, math.ceil(span / samples))
        own = seen_owners == owner
        part = View(*(np.ascontiguousarray(a[own]) for a in view))
        result[owner] = np.array(count_owner_pixels(part, owners, owner, rect, ids, step)) * step * step
    return result
