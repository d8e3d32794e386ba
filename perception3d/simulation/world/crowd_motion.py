"""How people of a crowd move: groups follow their ways abreast, keep apart from others and give way in time.

The rules are our own: a velocity towards the place in the group, a turn aside where another person would come too near
within two seconds, then a correction of places that are too near. None of it is learned or taken from a measured crowd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_SPACING_M = 0.35
"""No two people of a scene are ever nearer to each other than this."""
KEPT_SPACING_M, TOUCHING = 0.4, 0.9
"""Spacing that people keep: at least this, or this share of what would make the ellipses around them touch."""
LOOK_AHEAD_S, GIVE_WAY, ROUNDS, SETTLING_STEPS = 2.0, 1.2, 8, 25
"""How far ahead people look, how strongly they give way, corrections of places in one step, and steps before the scene
in which people who were drawn too near to each other move apart."""
_TURN_S = 0.6
"""Time constant of a walker's heading."""


@dataclass(frozen=True)
class Group:
    """People who belong together.

    Attributes:
        path: (K, 2) points of the way of the group's middle in metres; the only one of people who stay.
        pace_m_s: 0 for people who stay.
        slots: (M, 2) place of each member relative to the middle: metres ahead and left on the way, or in x and y for
            people who stay.
        yaws: (M,) heading in radians of people who stay.
        start_m: how far along the path the group is when the scene's clock starts.
        seated: nobody moves them.
    """

    path: np.ndarray
    pace_m_s: float
    slots: np.ndarray
    yaws: np.ndarray
    start_m: float = 0.0
    seated: bool = False

    def middle(self, along_m: float) -> tuple[np.ndarray, float]:
        """Returns the place (2,) and the heading of the way `along_m` metres from its begin."""
        if self.pace_m_s == 0:
            return self.path[0], 0.0
        lengths = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(self.path, axis=0), axis=1)))
        # Looking a metre back and ahead rounds the corners of the way.
        near = np.clip([along_m - 1.0, along_m, along_m + 1.0], 0, lengths[-1])
        back, here, ahead = np.stack([np.interp(near, lengths, self.path[:, k]) for k in range(2)], -1)
        run = ahead - back
        return 0.5 * here + 0.25 * (back + ahead), float(np.arctan2(run[1], run[0]))


@dataclass(frozen=True)
class Crowd:
    """People in the order of their groups, and what is in their way.

    sizes (N, 2): length and width of each person in metres; obstacles (K, 3): x, y and radius of round ones.
    """

    groups: list[Group]
    sizes: np.ndarray
    obstacles: np.ndarray

    def members(self) -> np.ndarray:
        """Returns the number of the group (N,) of each person."""
        return np.repeat(np.arange(len(self.groups)), [len(group.slots) for group in self.groups])


class _State:
    """Places and velocities (N, 2), headings (N,), and how far each group is on its way."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd, self.group = crowd, crowd.members()
        self.pace = np.array([group.pace_m_s for group in crowd.groups])[self.group]
        seated = np.array([group.seated for group in crowd.groups], bool)[self.group]
        # Who stands steps aside a little, who sits does not.
        self.mobility = np.where(seated, 0.0, np.where(self.pace > 0, 1.0, 0.15))
        self.along = np.array([group.start_m for group in crowd.groups])
        self.place, heading = self.targets()
        self.yaw = np.where(self.pace > 0, heading, np.concatenate([group.yaws for group in crowd.groups]))
        self.velocity = np.stack([np.cos(self.yaw), np.sin(self.yaw)], -1) * self.pace[:, None]

    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns where each person should be (N, 2), and the heading (N,) of the group's way there."""
        places, headings = [], []
        for group, along in zip(self.crowd.groups, self.along):
            middle, heading = group.middle(along)
            cos, sin = np.cos(heading), np.sin(heading)
            places.append(middle + group.slots @ np.array([[cos, sin], [-sin, cos]]))
            headings.append(np.full(len(group.slots), heading))
        return np.concatenate(places), np.concatenate(headings)

    def step(self, step_s: float, moves: bool) -> None:
        """Goes on by one step of the clock; without `moves`, people only move apart."""
        target, heading = self.targets()
        wanted = (target - self.place) / 0.7
        if moves:
            wanted += np.stack([np.cos(heading), np.sin(heading)], -1) * self.pace[:, None]
        else:
            wanted[self.pace > 0] *= 0.3
        wanted += self._giving_way() if moves else 0.0
        limit = 1.4 * self.pace + 0.3
        speed = np.linalg.norm(wanted, axis=1)
        wanted *= np.minimum(1.0, limit / np.maximum(speed, 1e-9))[:, None]
        share = np.where(self.mobility > 0, min(1.0, step_s / 0.3), 0.0)[:, None]
        self.velocity += share * (wanted - self.velocity)
        before = self.place.copy()
        self.place = self.place + step_s * self.velocity
        self._move_apart()
        self.velocity = 0.5 * self.velocity + 0.5 * (self.place - before) / step_s
        if moves:
            self._turn(step_s)
            self._advance(step_s, target)

    def _turn(self, step_s: float) -> None:
        walks = (self.pace > 0) & (np.linalg.norm(self.velocity, axis=1) > 0.2)
        turn = np.arctan2(self.velocity[:, 1], self.velocity[:, 0]) - self.yaw
        turn = np.mod(turn + np.pi, 2 * np.pi) - np.pi
        self.yaw = self.yaw + np.where(walks, np.clip(turn * step_s / _TURN_S, -2.5 * step_s, 2.5 * step_s), 0.0)

    def _advance(self, step_s: float, target: np.ndarray) -> None:
        lag = np.linalg.norm(target - self.place, axis=1)
        for k, group in enumerate(self.crowd.groups):
            # The others wait for who was held up.
            self.along[k] += group.pace_m_s * step_s * float(np.clip(1.5 - lag[self.group == k].max(), 0.1, 1.0))

    def _spacing(self, offset: np.ndarray) -> np.ndarray:
        """Returns the least distance (N, N) of each two people, whose bodies are ellipses, in direction `offset`."""
        half = np.maximum(0.5 * self.crowd.sizes, 0.15)
        angle = np.arctan2(offset[..., 1], offset[..., 0]) - self.yaw[:, None]
        reach = 1.0 / np.hypot(np.cos(angle) / half[:, :1], np.sin(angle) / half[:, 1:])
        return np.maximum(TOUCHING * (reach + reach.T), KEPT_SPACING_M)

    def _giving_way(self) -> np.ndarray:
        """Returns how everybody changes velocity (N, 2) because of whom they would meet."""
        offset = self.place[None] - self.place[:, None]
        closing = self.velocity[None] - self.velocity[:, None]
        fast = np.maximum((closing**2).sum(-1), 1e-6)
        time = np.clip(-(offset * closing).sum(-1) / fast, 0.0, LOOK_AHEAD_S)
        nearest = offset + time[..., None] * closing
        gap = np.linalg.norm(nearest, axis=-1)
        lack = np.maximum(self._spacing(offset) + 0.15 - gap, 0.0)
        lack[self.group[:, None] == self.group[None]] = 0.0
        # Who would be met head on is passed on the right.
        right = np.stack([self.velocity[:, 1], -self.velocity[:, 0]], -1)
        right /= np.maximum(np.linalg.norm(right, axis=1), 1e-6)[:, None]
        away = -nearest / np.maximum(gap, 1e-6)[..., None]
        away = np.where((gap < 0.1)[..., None], right[:, None], away)
        push = (GIVE_WAY * lack / np.maximum(time, 0.5))[..., None] * away
        total = push.sum(1) + self._around_obstacles(right)
        return total * self.mobility[:, None]

    def _around_obstacles(self, right: np.ndarray) -> np.ndarray:
        obstacles = self.crowd.obstacles
        offset = obstacles[None, :, :2] - self.place[:, None]
        fast = np.maximum((self.velocity**2).sum(-1), 1e-6)[:, None]
        time = np.clip((offset * self.velocity[:, None]).sum(-1) / fast, 0.0, LOOK_AHEAD_S)
        nearest = offset - time[..., None] * self.velocity[:, None]
        gap = np.linalg.norm(nearest, axis=-1)
        lack = np.maximum(obstacles[:, 2] + 0.45 - gap, 0.0)
        away = np.where((gap < 0.1)[..., None], right[:, None], -nearest / np.maximum(gap, 1e-6)[..., None])
        return ((GIVE_WAY * lack / np.maximum(time, 0.5))[..., None] * away).sum(1)

    def _move_apart(self) -> None:
        obstacles = self.crowd.obstacles
        pairs = self.mobility[:, None] + self.mobility[None]
        share = np.where(pairs > 0, self.mobility[:, None] / np.maximum(pairs, 1e-9), 0.0)
        for _ in range(ROUNDS):
            offset = self.place[None] - self.place[:, None]
            gap = np.linalg.norm(offset, axis=-1)
            lack = np.maximum(self._spacing(offset) - gap, 0.0)
            np.fill_diagonal(lack, 0.0)
            # Two at one place move apart along x.
            away = np.where((gap > 1e-6)[..., None], -offset / np.maximum(gap, 1e-6)[..., None], [1.0, 0.0])
            self.place = self.place + ((share * lack)[..., None] * away).sum(1)
            offset = self.place[:, None] - obstacles[None, :, :2]
            gap = np.linalg.norm(offset, axis=-1)
            lack = np.maximum(obstacles[:, 2] + 0.3 - gap, 0.0) * (self.mobility > 0)[:, None]
            self.place = self.place + (lack[..., None] * offset / np.maximum(gap, 1e-6)[..., None]).sum(1)


def walk(crowd: Crowd, steps: int, step_s: float) -> np.ndarray:
    """Returns the tracks (N, steps, 3) of all people: x, y in metres and heading in radians."""
    state = _State(crowd)
    for _ in range(SETTLING_STEPS):
        state.step(step_s, moves=False)
    tracks = []
    for _ in range(steps):
        tracks.append(np.column_stack([state.place, state.yaw]))
        state.step(step_s, moves=True)
    return np.stack(tracks, axis=1)


def too_near(tracks: np.ndarray, obstacles: np.ndarray) -> list[int]:
    """Returns whom to leave out, so that nobody is nearer than `LEAST_SPACING_M` to another or inside an obstacle.

    tracks (N, T, 3) on a grid; between its times people move straight on. obstacles (K, 3): x, y, radius. Of two, the
    later one goes.
    """
    places = tracks[:, :, :2]
    removed = set(np.flatnonzero((_gaps(places, obstacles[:, None, :2]) < obstacles[:, 2]).any(1)).tolist())
    near = _gaps(places, places) < LEAST_SPACING_M
    for first, second in np.argwhere(np.triu(near, 1)).tolist():
        if first not in removed:
            removed.add(second)
    return sorted(removed)


def _gaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the least distance (N, M) over time of each two tracks (N, T, 2), (M, T or 1, 2)."""
    offset = first[:, None] - second[None]
    start, run = offset[:, :, :-1], np.diff(offset, axis=2)
    share = np.clip(-(start * run).sum(-1) / np.maximum((run**2).sum(-1), 1e-12), 0.0, 1.0)
    return np.linalg.norm(start + share[..., None] * run, axis=-1).min(2)
