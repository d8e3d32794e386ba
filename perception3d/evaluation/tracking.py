"""Scores of tracks by the distance of centres in the plane: MOTA, IDF1, MT, ML and AMOTA; no torch.

MOTA: CLEAR MOT (Bernardin and Stiefelhagen 2008). IDF1: Ristani et al. 2016. MT and ML: Nevatia's measures (Wu and
Nevatia 2006), mostly tracked above 80 %, mostly lost below 20 % of a person's frames, as STCrowd's site has them.
AMOTA: Weng et al. 2020 as the nuScenes devkit computes it, whose other measures clip MOTA at 0: here it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from perception3d.evaluation.bootstrap import Ratio

_RECALLS = np.linspace(0.1, 1, 40).round(12)
"""Of AMOTA."""


@dataclass(frozen=True)
class TrackedFrame:
    """A frame: n people to be tracked, k who are ignored, m boxes of tracks.

    ids (n,), centers_m (n, 2): people; ignored_m (k, 2); track_ids (m,), tracks_m (m, 2), scores (m,): boxes of tracks.
    Identities are unique in a frame.
    """

    ids: npt.NDArray[Any]
    centers_m: npt.NDArray[Any]
    ignored_m: npt.NDArray[Any]
    track_ids: npt.NDArray[Any]
    tracks_m: npt.NDArray[Any]
    scores: npt.NDArray[Any]


@dataclass(frozen=True)
class _Frame:
    """Identities counted from 0: people (n,), tracks (m,); distances of both (n, m), from the ignored (m,)."""

    people: npt.NDArray[Any]
    tracks: npt.NDArray[Any]
    distance_m: npt.NDArray[Any]
    ignored_m: npt.NDArray[Any]


@dataclass(frozen=True)
class SequenceOfTracks:
    """A sequence, prepared once for all bounds and scores.

    frames: those with anybody in them; lengths (people,): frames of each person; scores (tracks,): means of the boxes.
    """

    frames: tuple[_Frame, ...]
    lengths: npt.NDArray[Any]
    scores: npt.NDArray[Any]

    @property
    def boxes(self) -> int:
        """How many boxes of people there are."""
        return int(self.lengths.sum())


@dataclass(frozen=True)
class TrackCounts:
    """What a sequence adds: boxes of people, matches to the same track as before, switches, misses, false boxes, boxes
    of tracks and of these the ones on the right person (IDTP); people, mostly tracked, mostly lost; scores of matches.
    """

    boxes: int
    matches: int
    switches: int
    misses: int
    false: int
    predicted: int
    right: int
    people: int
    mostly_tracked: int
    mostly_lost: int
    match_scores: npt.NDArray[Any]


def prepare_sequence(frames: Sequence[TrackedFrame]) -> SequenceOfTracks:
    """Returns a sequence whose frames are in order of time."""
    people: dict[int, int] = {}
    tracks: dict[int, int] = {}
    prepared = []
    for frame in frames:
        rows = np.array([people.setdefault(int(k), len(people)) for k in frame.ids], np.int64)
        own = np.array([tracks.setdefault(int(k), len(tracks)) for k in frame.track_ids], np.int64)
        if not len(rows) and not len(own):
            continue
        apart = frame.centers_m[:, None] - frame.tracks_m[None]
        from_ignored = frame.ignored_m[:, None] - frame.tracks_m[None]
        ignored = np.hypot(from_ignored[..., 0], from_ignored[..., 1]).min(axis=0, initial=np.inf)
        prepared.append(_Frame(rows, own, np.hypot(apart[..., 0], apart[..., 1]), ignored))
    ids = np.concatenate([frame.people for frame in prepared] or [np.zeros(0, np.int64)])
    own = np.concatenate([frame.tracks for frame in prepared] or [np.zeros(0, np.int64)])
    scores = np.concatenate([np.zeros(0), *(frame.scores for frame in frames)])
    boxes = np.bincount(own, minlength=len(tracks))
    means = np.bincount(own, scores, len(tracks)) / np.maximum(boxes, 1)
    return SequenceOfTracks(tuple(prepared), np.bincount(ids, minlength=len(people)), means)


def count_tracks(sequence: SequenceOfTracks, bound_m: float, least_score: float | None = None) -> TrackCounts:
    """Counts matches and errors of a sequence, as motmetrics does.

    In each frame a person keeps the track of its last match where that is closer than the bound; the others are
    assigned so that most are matched, then with the least sum of distances (Hungarian method). A box of a track that is
    not matched is left out, also of IDF1, where an ignored person is closer than the bound.

    Args:
        bound_m: what a match must be closer than, metres in the plane.
        least_score: leave out tracks whose mean score is lower.
    """
    last = np.full(len(sequence.lengths), -1, np.int64)
    tracked, together = np.zeros(len(last), np.int64), np.zeros((len(last), len(sequence.scores)), np.int64)
    matches = switches = false = predicted = 0
    scores = [np.zeros(0)]
    for frame in sequence.frames:
        near, own, ignored = frame.distance_m, frame.tracks, frame.ignored_m
        if least_score is not None:
            kept = sequence.scores[own] >= least_score
            near, own, ignored = near[:, kept], own[kept], ignored[kept]
        pairs = _match_frame(last[frame.people], own, near, bound_m)
        people, taken = frame.people[pairs[0]], own[pairs[1]]
        switched = (last[people] >= 0) & (last[people] != taken)
        last[people] = taken
        tracked[people] += 1
        matches += int((~switched).sum())
        switches += int(switched.sum())
        scores.append(sequence.scores[taken[~switched]])
        counts = ignored >= bound_m
        counts[pairs[1]] = True
        false += int(counts.sum()) - len(taken)
        predicted += int(counts.sum())
        rows, columns = np.nonzero((near < bound_m) & counts)
        together[frame.people[rows], own[columns]] += 1
    share = tracked * 10, sequence.lengths
    return TrackCounts(
        boxes=sequence.boxes,
        matches=matches,
        switches=switches,
        misses=sequence.boxes - matches - switches,
        false=false,
        predicted=predicted,
        right=int(together[linear_sum_assignment(together, maximize=True)].sum()),
        people=len(last),
        mostly_tracked=int((share[0] > 8 * share[1]).sum()),
        mostly_lost=int((share[0] < 2 * share[1]).sum()),
        match_scores=np.concatenate(scores),
    )


def _match_frame(
    last: npt.NDArray[Any], own: npt.NDArray[Any], near_m: npt.NDArray[Any], bound_m: float
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns rows and columns of the matches; last (n,): the track of each person's last match, -1 without."""
    allowed = near_m < bound_m
    # The same track may be the last one of two people: the first has it.
    rows, columns = np.nonzero((last[:, None] == own[None]) & allowed)
    columns, first = np.unique(columns, return_index=True)
    rows = rows[first]
    allowed[rows] = False
    allowed[:, columns] = False
    if not allowed.any():
        return rows, columns
    some, others = np.flatnonzero(allowed.any(1)), np.flatnonzero(allowed.any(0))
    part = allowed[np.ix_(some, others)]
    # An assignment with one match more is always cheaper.
    cost = np.where(part, near_m[np.ix_(some, others)], bound_m * (min(part.shape) + 1))
    i, j = linear_sum_assignment(cost)
    real = part[i, j]
    return np.append(rows, some[i[real]]), np.append(columns, others[j[real]])


def track_ratios(counts: Sequence[TrackCounts]) -> dict[str, Ratio]:
    """Returns `mota`, `idf1`, `mt` and `ml` in percent, of one count a sequence."""

    def column(value: Callable[[TrackCounts], int]) -> npt.NDArray[Any]:
        return np.array([value(count) for count in counts], np.float64)

    boxes, people = column(lambda c: c.boxes), column(lambda c: c.people)
    return {
        'mota': Ratio(boxes - column(lambda c: c.misses + c.false + c.switches), boxes, 100),
        'idf1': Ratio(column(lambda c: 2 * c.right), boxes + column(lambda c: c.predicted), 100),
        'mt': Ratio(column(lambda c: c.mostly_tracked), people, 100),
        'ml': Ratio(column(lambda c: c.mostly_lost), people, 100),
    }


def average_mota(sequences: Sequence[SequenceOfTracks], bound_m: float) -> float | None:
    """Returns AMOTA in percent as the nuScenes devkit computes it; None where there is nobody to track.

    It is the mean over 40 recalls of MOTAR = max(0, 1 - (switches + false + misses - (1 - r) P) / (r P)): P boxes of
    people, r the recall that was measured, of matches without switches. A recall that is not reached is 0. The score of
    a track is the mean of its boxes; the least score for a recall is interpolated between those of the matches of all
    tracks. The devkit measures at 2 m and fills gaps of tracks first: here nothing is filled.
    """
    boxes = sum(sequence.boxes for sequence in sequences)
    if not boxes:
        return None
    every = [count_tracks(sequence, bound_m).match_scores for sequence in sequences]
    scores = np.sort(np.concatenate(every))[::-1]
    if not len(scores):
        return 0.0
    reached = np.arange(1, len(scores) + 1) / boxes
    least = np.interp(_RECALLS, reached, scores, right=0)[reached[-1] >= _RECALLS]
    values, times = np.unique(least, return_counts=True)
    parts = [_motar(sequences, bound_m, float(value)) * int(n) for value, n in zip(values, times)]
    return 100 * sum(parts) / len(_RECALLS)


def _motar(sequences: Sequence[SequenceOfTracks], bound_m: float, least_score: float) -> float:
    counts = [count_tracks(sequence, bound_m, least_score) for sequence in sequences]
    boxes, matches = sum(c.boxes for c in counts), sum(c.matches for c in counts)
    if not matches:
        return 0.0
    errors = sum(c.switches + c.false + c.misses for c in counts)
    return max(0.0, 1 - (errors - (boxes - matches)) / matches)
