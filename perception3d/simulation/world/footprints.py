"""Rectangles on the ground: corners and overlap, for placing objects and for finding collisions."""

from __future__ import annotations

import numpy as np


def rectangle_corners(rects: np.ndarray) -> np.ndarray:
    """Returns the corners (N, 4, 2) of rectangles (N, 5): centre x, y, length, width in metres, yaw in radians."""
    rects = np.asarray(rects, float).reshape(-1, 5)
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    local = signs[None] * rects[:, None, 2:4]
    cos, sin = np.cos(rects[:, 4])[:, None], np.sin(rects[:, 4])[:, None]
    x = local[..., 0] * cos - local[..., 1] * sin + rects[:, None, 0]
    y = local[..., 0] * sin + local[..., 1] * cos + rects[:, None, 1]
    return np.stack([x, y], -1)


def overlapping(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Tells which of the N rectangle pairs (N, 5), (N, 5) overlap, by the separating axis theorem; (N,) bool."""
    corners = rectangle_corners(first), rectangle_corners(second)
    apart = np.zeros(len(corners[0]), bool)
    for rects in (first, second):
        for quarter in (0.0, np.pi / 2):
            axis = np.stack([np.cos(rects[:, 4] + quarter), np.sin(rects[:, 4] + quarter)], -1)
            spans = [np.einsum('nkc,nc->nk', c, axis) for c in corners]
            apart |= spans[0].max(1) < spans[1].min(1)
            apart |= spans[1].max(1) < spans[0].min(1)
    return ~apart


class Places:
    """The rectangles that are occupied so far, (N, 5)."""

    def __init__(self) -> None:
        self.taken = np.zeros((0, 5))

    def is_free(self, rect: tuple[float, float, float, float, float], margin: float = 0.3) -> bool:
        """Tells whether a rectangle, grown by `margin` metres on each side, overlaps no occupied one."""
        grown = np.array([[rect[0], rect[1], rect[2] + 2 * margin, rect[3] + 2 * margin, rect[4]]])
        radius = np.hypot(grown[0, 2], grown[0, 3]) / 2
        gap = np.hypot(self.taken[:, 0] - rect[0], self.taken[:, 1] - rect[1])
        near = self.taken[gap < radius + np.hypot(self.taken[:, 2], self.taken[:, 3]) / 2]
        return not overlapping(np.repeat(grown, len(near), 0), near).any() if len(near) else True

    def take(self, rect: tuple[float, float, float, float, float]) -> None:
        """Marks a rectangle as occupied."""
        self.taken = np.concatenate([self.taken, np.array([rect], float)])

    def claim(self, rect: tuple[float, float, float, float, float], margin: float = 0.3) -> bool:
        """Takes a rectangle if it is free; tells whether it was."""
        free = self.is_free(rect, margin)
        if free:
            self.take(rect)
        return free


def collisions(tracks: np.ndarray, sizes: np.ndarray, margin: float = 0.05) -> list[tuple[int, int]]:
    """Returns all pairs (i < j) of agents whose rectangles, grown by `margin` metres, ever overlap, in order.

    tracks (A, T, 3): x, y, yaw of the rectangle centres; sizes (A, 2): length, width.
    """
    radius = np.hypot(sizes[:, 0], sizes[:, 1]) / 2 + margin
    low = tracks[:, :, :2].min(1) - radius[:, None]
    high = tracks[:, :, :2].max(1) + radius[:, None]
    near = (low[:, None] < high[None]).all(2) & (low[None] < high[:, None]).all(2)
    first, second = np.nonzero(np.triu(near, 1))
    gap = np.linalg.norm(tracks[first, :, :2] - tracks[second, :, :2], axis=2)
    pair, times = np.nonzero(gap < (radius[first] + radius[second])[:, None])

    def rectangles(agents: np.ndarray) -> np.ndarray:
        place = tracks[agents, times]
        return np.column_stack([place[:, :2], sizes[agents] + 2 * margin, place[:, 2]])

    hits = overlapping(rectangles(first[pair]), rectangles(second[pair]))
    return [(int(first[k]), int(second[k])) for k in np.unique(pair[hits])]
