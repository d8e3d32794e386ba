"""Tracks of detected boxes over time, without learned parts: constant velocity, gates by density, assignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, unknown_name
from perception3d.models.crowd.association import assign, distances, nearest_neighbour, require_method
from perception3d.models.crowd.track_state import MotionNoise, TrackState
from perception3d.registry import TASK_UTILS
from perception3d.structures.boxes import Boxes
from perception3d.structures.tracks import Tracks

Array = npt.NDArray[Any]


@TASK_UTILS.register_module()
class CenterTracker:
    """Follows the centres of boxes in the plane from frame to frame of one sequence.

    A track is moved on by its velocity and the time between two frames (Kalman filter, `MotionNoise`). Detections are
    assigned to the tracks of their class by the distance of the centres in BEV, in three steps as ByteTrack does:
    those from `birth_score` on to confirmed tracks, those from `keep_score` on (often of people who are half hidden) to
    confirmed tracks that are left, then the rest of the former to candidates. What is left of these becomes a
    candidate, which is confirmed by its `min_hits`-th detection in successive frames.

    A pair must be nearer than its gate: `gate_mps` times the time step, and not more than `density_gate` times the
    distance to the next track of the class, so that in a crowd nobody takes over the detection of a neighbour; at least
    `min_gate_m`, the accuracy of detections. A track whose velocity is not known yet has the whole gate.

    Source of the structure: CenterPoint's tracker (Yin et al., CVPR 2021: centres, birth after two hits, an age of 3
    frames, 1.0 m in 0.5 s for pedestrians) and ByteTrack (Zhang et al., ECCV 2022). Scores, the density gate and the
    noise are our own proposal, [P] of no paper.

    Args:
        birth_score: lowest score that may begin a track.
        keep_score: lowest score that may continue one.
        gate_mps: gate a second of the time step: one number, or class -> number, where classes that are not named are
            not tracked.
        density_gate: share of the distance to the nearest other track; None: no limit by density.
        min_gate_m: no gate is smaller.
        min_hits: detections in successive frames until a track is reported.
        max_age: a track ends when it has no detection in more than so many frames.
        max_gap_s: it ends as well when it has none for longer than this.
        frame_s: time step of sequences without timestamps, seconds.
        matching: 'hungarian' or 'greedy'.
        noise: fields of `MotionNoise`.
        box_weight: of a detection in the moving averages of z, size and heading, 0 to 1.
        history: positions that a track keeps for its trail.

    Raises:
        InputError: a setting cannot be used.
    """

    def __init__(
        self,
        birth_score: float = 0.3,
        keep_score: float = 0.1,
        gate_mps: float | Mapping[str, float] = 2.0,
        density_gate: float | None = 0.6,
        min_gate_m: float = 0.25,
        min_hits: int = 2,
        max_age: int = 3,
        max_gap_s: float = 2.0,
        frame_s: float = 0.4,
        matching: str = 'hungarian',
        noise: Mapping[str, float] | None = None,
        box_weight: float = 0.5,
        history: int = 25,
    ) -> None:
        if not 0 <= keep_score <= birth_score:
            raise InputError(f'tracker: expected 0 <= keep_score <= birth_score, got {keep_score} and {birth_score}')
        for name, value, least in (
            ('min_gate_m', min_gate_m, 0),
            ('min_hits', min_hits, 1),
            ('max_age', max_age, 0),
            ('history', history, 0),
        ):
            if value < least:
                raise InputError(f'tracker: {name} is {value}, expected {least} or more')
        if not (frame_s > 0 and max_gap_s > 0 and 0 < box_weight <= 1):
            raise InputError('tracker: frame_s and max_gap_s must be above 0 s, box_weight above 0 and at most 1')
        self.birth_score, self.keep_score = birth_score, keep_score
        self.gate_mps = dict(gate_mps) if isinstance(gate_mps, Mapping) else float(gate_mps)
        self.density_gate, self.min_gate_m = density_gate, min_gate_m
        self.min_hits, self.max_age, self.max_gap_s, self.frame_s = min_hits, max_age, max_gap_s, frame_s
        self.matching = require_method(matching)
        self.noise, self.box_weight, self.history = MotionNoise(**(noise or {})), box_weight, history
        self.begin()

    def begin(self, classes: Sequence[str] = ()) -> None:
        """Forgets all tracks: a new sequence begins, whose identities are counted from 1 again.

        Args:
            classes: names of the labels; needed where `gate_mps` is given by class.

        Raises:
            InputError: `gate_mps` names a class that is not among them.
        """
        self._classes = tuple(classes)
        if isinstance(self.gate_mps, dict) and self._classes:
            for name in self.gate_mps:
                if name not in self._classes:
                    raise unknown_name('class in gate_mps of the tracker', name, self._classes)
        self._time_s: float | None = None
        self._next_id = 1
        self._state = self._new(Boxes(np.zeros((0, 9)), np.zeros(0), np.zeros(0)))

    def update(
        self,
        boxes: Array,
        scores: Array,
        time_s: float | None = None,
        now_from_before: Array | None = None,
        labels: Array | None = None,
    ) -> Tracks:
        """Takes the detections of the next frame and returns the tracks that have one in it.

        Args:
            boxes: (N, 7 or 9) in the LiDAR frame: bottom centre, length, width, height, yaw, velocity (m/s, NaN where
                unknown). Boxes that are not finite are left out.
            scores: (N,).
            time_s: of the frame, seconds; None: `frame_s` after the one before.
            now_from_before: (4, 4) from the LiDAR frame of the frame before to the current one; None: the LiDAR
                stands still.
            labels: (N,) classes; None: all are of class 0.

        Returns:
            `Tracks` of the filtered boxes (M, 9), by rising identity, with the mean score of each track so far and the
            places where it was detected before, in the current LiDAR frame.

        Raises:
            InputError: the frame is not later than the one before, or shapes do not fit.
        """
        detected = self._detections(boxes, scores, labels)
        step_s = self._step(time_s)
        state = self._state
        if now_from_before is not None:
            state.move_frame(np.asarray(now_from_before, np.float64))
        state.predict(step_s, self.noise)
        state.misses += 1
        state = state.select(state.lost_s <= self.max_gap_s)
        born = self._match(state, detected, step_s)
        state = state.select((state.misses == 0) | ((state.ids > 0) & (state.misses <= self.max_age)))
        self._state = state.joined(self._new(born))
        return self._reported()

    def _match(self, state: TrackState, detected: Boxes, step_s: float) -> Boxes:
        """Gives detections to tracks; returns those that begin new ones."""
        assert detected.scores is not None, 'a tracker has scores'
        gates, widest = self._gates(state, step_s)
        confirmed, high = state.ids > 0, detected.scores >= self.birth_score
        free_tracks, free = np.ones(len(state), bool), np.ones(len(detected), bool)
        for tracks, candidates in ((confirmed, high), (confirmed, ~high), (~confirmed, high)):
            rows, columns = np.flatnonzero(tracks & free_tracks), np.flatnonzero(candidates & free)
            apart = distances(state.positions[rows], detected.boxes[columns, :2])
            same = state.labels[rows][:, None] == detected.labels[columns][None]
            pairs = assign(apart, gates[rows], same, widest[rows], self.matching)
            rows, columns = rows[pairs[0]], columns[pairs[1]]
            state.correct(rows, detected.boxes[columns], detected.scores[columns], self.noise, self.box_weight)
            free_tracks[rows], free[columns] = False, False
        return detected.select(high & free)

    def _detections(self, boxes: Array, scores: Array, labels: Array | None) -> Boxes:
        """The detections that count, best first, with nine columns."""
        count = len(scores)
        found = Boxes(boxes, np.zeros(count, np.int64) if labels is None else labels, scores)
        rows, found_scores = found.boxes, found.scores
        assert found_scores is not None, 'given above'
        if rows.shape[1] < 9:
            rows = np.column_stack([rows[:, :7], np.full((len(rows), 2), np.nan)])
        kept = np.isfinite(rows[:, :7]).all(axis=1) & (found_scores >= self.keep_score)
        kept &= np.isfinite(self._gate_mps(found.labels))
        # By place where scores are equal, so that the order of the boxes does not matter.
        order = np.lexsort([rows[:, 1], rows[:, 0], -found_scores])
        order = order[kept[order]]
        return Boxes(rows[order], found.labels[order], found_scores[order])

    def _gate_mps(self, labels: Array) -> Array:
        """The gate a second of each label; NaN for classes that are not tracked."""
        if not isinstance(self.gate_mps, dict):
            return np.full(len(labels), self.gate_mps)
        if not self._classes:
            raise InputError('tracker: gate_mps is given by class, so begin(classes) must name the classes first')
        by_label = np.array([self.gate_mps.get(name, np.nan) for name in self._classes])
        known = (labels >= 0) & (labels < len(by_label))
        return np.where(known, by_label[np.where(known, labels, 0)], np.nan)

    def _step(self, time_s: float | None) -> float:
        """The time since the frame before in seconds; 0 for the first frame."""
        before = self._time_s
        if time_s is None:
            time_s = 0.0 if before is None else before + self.frame_s
        if not np.isfinite(time_s) or (before is not None and time_s <= before):
            raise InputError(
                f'a tracker needs the frames of a sequence in the order of time: {time_s:.3f} s came after '
                f'{before or 0.0:.3f} s; sort the frames, and give each its own timestamp'
            )
        self._time_s = float(time_s)
        return 0.0 if before is None else self._time_s - before

    def _gates(self, state: TrackState, step_s: float) -> tuple[Array, Array]:
        """The gates of all tracks (N,) in metres, and what they were without the limit by density."""
        widest = np.maximum(self._gate_mps(state.labels) * step_s, self.min_gate_m)
        if self.density_gate is None:
            return widest, widest
        spacing = nearest_neighbour(state.positions, state.labels)
        dense = np.maximum(self.density_gate * spacing, self.min_gate_m)
        return np.where(state.moves_known, np.minimum(widest, dense), widest), widest

    def _new(self, detected: Boxes) -> TrackState:
        """New candidates; they get an identity when they are confirmed."""
        return TrackState.of_detections(detected, self.noise, self.history + 1)

    def _reported(self) -> Tracks:
        """The confirmed tracks that have a detection in this frame; gives new ones their identities."""
        state = self._state
        # Candidates are confirmed in the order in which they began, so that identities rise along the rows.
        new = np.flatnonzero((state.ids == 0) & (state.hits >= self.min_hits))
        state.ids[new] = self._next_id + np.arange(len(new))
        self._next_id += len(new)
        state = state.select((state.ids > 0) & (state.misses == 0))
        # The last place of a trail is the current one, which the box has.
        trails = tuple(trail[:-1][np.isfinite(trail[:-1]).all(axis=1)] for trail in state.trails)
        boxes = Boxes(state.boxes(), state.labels, state.score_sums / state.hits)
        return Tracks(boxes, state.ids, trails, classes=self._classes)
