"""What a tracker knows of its objects: positions and velocities with their uncertainty, sizes, headings, trails.

One array a quantity, one row an object. A constant-velocity Kalman filter moves positions in the plane; all else is a
moving average.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.structures.boxes import Boxes

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class MotionNoise:
    """Standard deviations of the filter; our own choice for people, [P] of no paper.

    Attributes:
        acceleration_mps2: how people change their velocity.
        position_m: of a detected centre.
        velocity_mps: of a detected velocity.
        first_speed_mps: of the velocity of an object whose velocity no detector gave, at its first sight.
    """

    acceleration_mps2: float = 1.5
    position_m: float = 0.15
    velocity_mps: float = 0.5
    first_speed_mps: float = 1.4


@dataclass
class TrackState:
    """The N objects that are followed.

    Attributes:
        positions: (N, 2) metres in the current LiDAR frame.
        velocities: (N, 2) m/s.
        covariances: (N, 2, 2) of position and velocity along one axis; both axes are alike and independent.
        heights: (N,) z of the bottom, metres.
        sizes: (N, 3) length, width, height, metres.
        headings: (N, 2) mean of unit vectors along the front; a detection turned by 180 degrees shortens it only.
        labels: (N,) classes.
        ids: (N,) identities from 1 on; 0 for an object that is not confirmed yet.
        hits: (N,) detections so far.
        misses: (N,) frames since the last one.
        lost_s: (N,) time since the last one, seconds.
        score_sums: (N,) sum of the scores of the detections.
        moves_known: (N,) whether the velocity is an observation and not the start value 0.
        trails: (N, T, 3) bottom centres at the last T detections in the current LiDAR frame, newest last, NaN before.
    """

    positions: Array
    velocities: Array
    covariances: Array
    heights: Array
    sizes: Array
    headings: Array
    labels: Array
    ids: Array
    hits: Array
    misses: Array
    lost_s: Array
    score_sums: Array
    moves_known: Array
    trails: Array

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of_detections(cls, detected: Boxes, noise: MotionNoise, trail: int) -> TrackState:
        """Returns new objects, without identities, of detections with scores and boxes (N, 9)."""
        boxes, scores = detected.boxes, detected.scores
        assert scores is not None, 'a detection has a score'
        count = len(boxes)
        known = np.isfinite(boxes[:, 7:9]).all(axis=1)
        covariances = np.zeros((count, 2, 2))
        covariances[:, 0, 0] = noise.position_m**2
        covariances[:, 1, 1] = np.where(known, noise.velocity_mps, noise.first_speed_mps) ** 2
        trails = np.full((count, trail, 3), np.nan)
        if trail:
            trails[:, -1] = boxes[:, :3]
        return cls(
            positions=boxes[:, :2].copy(),
            velocities=np.where(known[:, None], boxes[:, 7:9], 0.0),
            covariances=covariances,
            heights=boxes[:, 2].copy(),
            sizes=boxes[:, 3:6].copy(),
            headings=_unit(boxes[:, 6]),
            labels=detected.labels.copy(),
            ids=np.zeros(count, np.int64),
            hits=np.ones(count, np.int64),
            misses=np.zeros(count, np.int64),
            lost_s=np.zeros(count),
            score_sums=scores.copy(),
            moves_known=known,
            trails=trails,
        )

    def select(self, kept: Array) -> TrackState:
        """Returns the objects of a boolean mask or an index array."""
        return TrackState(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})

    def joined(self, other: TrackState) -> TrackState:
        """Returns its objects, then those of `other`."""
        names = [field.name for field in fields(self)]
        return TrackState(**{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names})

    def move_frame(self, now_from_before: Array) -> None:
        """Expresses all in the LiDAR frame after a motion (4, 4) of the vehicle."""
        rotation, offset = now_from_before[:3, :3], now_from_before[:3, 3]
        bottoms = np.column_stack([self.positions, self.heights]) @ rotation.T + offset
        self.positions, self.heights = bottoms[:, :2], bottoms[:, 2]
        # Pitch and roll of a vehicle are small: vectors in the plane turn by the rotation about z.
        self.velocities, self.headings = (value @ rotation[:2, :2].T for value in (self.velocities, self.headings))
        self.trails = self.trails @ rotation.T + offset

    def predict(self, step_s: float, noise: MotionNoise) -> None:
        """Moves all objects on by a time, with constant velocity and white acceleration."""
        transition = np.array([[1.0, step_s], [0.0, 1.0]])
        gain = np.array([step_s**2 / 2, step_s]) * noise.acceleration_mps2
        self.positions = self.positions + step_s * self.velocities
        self.covariances = transition @ self.covariances @ transition.T + np.outer(gain, gain)
        self.lost_s = self.lost_s + step_s

    def correct(self, rows: Array, boxes: Array, scores: Array, noise: MotionNoise, weight: float) -> None:
        """Takes the detections (M, 9) of the objects `rows` (M,) into account.

        Args:
            rows: each once.
            boxes: finite but for the velocities, which are NaN where unknown.
            scores: (M,).
            noise: of the detections.
            weight: of a detection in the moving averages of height, size and heading, 0 to 1.
        """
        self._observe(rows, boxes[:, :2] - self.positions[rows], 0, noise.position_m)
        seen = np.isfinite(boxes[:, 7:9]).all(axis=1)
        moving = rows[seen]
        self._observe(moving, boxes[seen, 7:9] - self.velocities[moving], 1, noise.velocity_mps)
        for value, detected in (
            (self.heights, boxes[:, 2]),
            (self.sizes, boxes[:, 3:6]),
            (self.headings, _unit(boxes[:, 6])),
        ):
            value[rows] += weight * (detected - value[rows])
        self.hits[rows] += 1
        self.misses[rows], self.lost_s[rows], self.moves_known[rows] = 0, 0.0, True
        self.score_sums[rows] += scores
        if self.trails.shape[1]:
            older = self.trails[rows, 1:]
            newest = np.column_stack([self.positions[rows], self.heights[rows]])
            self.trails[rows] = np.concatenate([older, newest[:, None]], axis=1)

    def _observe(self, rows: Array, errors: Array, part: int, deviation: float) -> None:
        """A Kalman update of position (part 0) or velocity (part 1) by what was detected minus what was expected."""
        before = self.covariances[rows]
        gain = before[:, :, part] / (before[:, part, part] + deviation**2)[:, None]
        self.positions[rows] += gain[:, :1] * errors
        self.velocities[rows] += gain[:, 1:] * errors
        self.covariances[rows] = before - gain[:, :, None] * before[:, part][:, None]

    def boxes(self) -> Array:
        """Returns the boxes (N, 9) as filtered: bottom centre, size, yaw, velocity; NaN where that is not known."""
        yaws = np.arctan2(self.headings[:, 1], self.headings[:, 0])
        velocities = np.where(self.moves_known[:, None], self.velocities, np.nan)
        return np.column_stack([self.positions, self.heights, self.sizes, yaws, velocities])


def _unit(yaws: Array) -> Array:
    return np.stack([np.cos(yaws), np.sin(yaws)], axis=1)
