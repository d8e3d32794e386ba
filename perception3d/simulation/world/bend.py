"""Roads with curves: an axis of straight lines and arcs that join without a kink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from perception3d.simulation.world.road import Axis, Road


@dataclass(frozen=True)
class BentRoad(Road):
    """A road whose axis consists of `pieces`, ordered by s; the first begins at s_min, the last ends at s_max.

    Every piece is given by where its line or circle would be at s = 0, so that s runs on from one to the next. Its own
    x, y, heading and radius are those of the first piece.
    """

    pieces: tuple[Axis, ...] = ()

    @cached_property
    def _roads(self) -> list[Road]:
        section = {name: getattr(self, name) for name in _SECTION}
        return [Road(**vars(piece), **section) for piece in self.pieces]

    def _piece_at(self, s: np.ndarray) -> np.ndarray:
        return np.searchsorted([piece.s_max for piece in self.pieces[:-1]], s, side='right')

    def pose(self, s: np.ndarray | float, d: np.ndarray | float) -> np.ndarray:
        """Returns (.., 3): x, y and the direction of rising s in radians at road coordinates."""
        s, d = np.broadcast_arrays(np.asarray(s, float), np.asarray(d, float))
        which, poses = self._piece_at(s), np.empty((*s.shape, 3))
        for k, road in enumerate(self._roads):
            own = which == k
            poses[own] = road.pose(s[own], d[own])
        return poses

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Returns road coordinates (N, 2) of points (N, 2): those of the piece that is nearest to each."""
        options = np.stack([road.locate(points) for road in self._roads])
        low = np.array([piece.s_min for piece in self.pieces])[:, None]
        high = np.array([piece.s_max for piece in self.pieces])[:, None]
        low[0], high[-1] = -np.inf, np.inf
        beyond = np.maximum(np.maximum(low - options[..., 0], options[..., 0] - high), 0.0)
        best = np.argmin(np.abs(options[..., 1]) + 1e3 * beyond, axis=0)
        return np.take_along_axis(options, best[None, :, None], axis=0)[0]

    def curvature(self, s: float) -> float:
        """Returns the curvature of the axis in 1/m, positive in a curve to the left."""
        radius = self.pieces[int(self._piece_at(np.array(s)))].radius_m
        return 1.0 / radius if radius else 0.0

    def rows(self) -> list[list[float]]:
        """Returns one row of `Ground.roads` for every piece; see `Road.row`."""
        return [road.row() for road in self._roads]


_SECTION = ('lanes', 'lane_width', 'parking', 'sidewalk', 'side', 'island')


def bent_axis(parts: Sequence[tuple[float, float]], s_min: float, s_max: float) -> tuple[Axis, ...]:
    """Returns the pieces of an axis that passes the origin along x at s = 0.

    parts: (start, radius) of each piece in order, metres; radius 0 for a line, positive for a left turn; the first one
    starts at s_min.
    """
    edges = [s_min, *(start for start, _ in parts[1:]), s_max]
    pieces = [Axis(0.0, 0.0, 0.0, radius, edges[k], edges[k + 1]) for k, (_, radius) in enumerate(parts)]
    middle = max(k for k, piece in enumerate(pieces) if piece.s_min <= 0.0)
    for k in range(middle + 1, len(pieces)):
        pieces[k] = _joined(pieces[k], pieces[k - 1], pieces[k].s_min)
    for k in range(middle - 1, -1, -1):
        pieces[k] = _joined(pieces[k], pieces[k + 1], pieces[k].s_max)
    return tuple(pieces)


def _joined(piece: Axis, neighbour: Axis, s: float) -> Axis:
    """Returns `piece` moved so that it has the place and direction of its neighbour at `s`."""
    x, y, heading = map(float, _bare(neighbour).pose(s, 0.0))
    start_x, start_y, turn = map(float, _bare(replace(piece, x=0.0, y=0.0, heading_rad=0.0)).pose(s, 0.0))
    cos, sin = np.cos(heading - turn), np.sin(heading - turn)
    origin = (x - start_x * cos + start_y * sin, y - start_x * sin - start_y * cos)
    return replace(piece, x=float(origin[0]), y=float(origin[1]), heading_rad=heading - turn)


def _bare(axis: Axis) -> Road:
    """Returns a road without width along an axis."""
    return Road(**vars(axis), lanes=0, lane_width=0.0, parking=0.0, sidewalk=0.0, side=1)
