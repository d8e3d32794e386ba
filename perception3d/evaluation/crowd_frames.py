"""People and predictions of frames as the crowd metrics take them, and all of them in one table; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.evaluation.crowd_options import CrowdOptions

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class People:
    """The N annotated people of a frame.

    Attributes:
        centers_m: (N, 3) middles of the boxes, LiDAR frame.
        ignored: (N,) who is neither to be found nor false: see `score_crowds`. None: nobody.
        occlusion: (N,) level, -1 unknown. None: all unknown.
        points: (N,) LiDAR points in the box, -1 unknown. None: all unknown.
        ids: (N,) identities in the sequence, -1 unknown. None: all unknown.
    """

    centers_m: npt.NDArray[Any]
    ignored: npt.NDArray[Any] | None = None
    occlusion: npt.NDArray[Any] | None = None
    points: npt.NDArray[Any] | None = None
    ids: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        centers = np.asarray(self.centers_m, np.float64).reshape(-1, 3)
        object.__setattr__(self, 'centers_m', centers)
        ignored = np.zeros(len(centers), bool) if self.ignored is None else np.asarray(self.ignored, bool)
        object.__setattr__(self, 'ignored', ignored.reshape(-1))
        for name in ('occlusion', 'points', 'ids'):
            given = getattr(self, name)
            values = np.full(len(centers), -1, np.int64) if given is None else np.asarray(given, np.int64).reshape(-1)
            object.__setattr__(self, name, values)
        lengths = {len(getattr(self, name)) for name in ('ignored', 'occlusion', 'points', 'ids')}
        if lengths != {len(centers)}:
            raise InputError(f'{len(centers)} people, but other numbers of what belongs to them: {sorted(lengths)}')

    def __len__(self) -> int:
        return len(self.centers_m)


@dataclass(frozen=True)
class Predictions:
    """The M predicted people of a frame, finite.

    centers_m: (M, 3) middles of the boxes, LiDAR frame; scores: (M,); ids: (M,) identities in the sequence, or None.
    """

    centers_m: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    ids: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        centers = np.asarray(self.centers_m, np.float64).reshape(-1, 3)
        scores = np.asarray(self.scores, np.float64).reshape(-1)
        ids = None if self.ids is None else np.asarray(self.ids, np.int64).reshape(-1)
        if len(scores) != len(centers) or (ids is not None and len(ids) != len(centers)):
            raise InputError(f'{len(centers)} predictions, but other numbers of scores or ids')
        if not (np.isfinite(centers).all() and np.isfinite(scores).all()):
            raise InputError('a prediction is not finite: leave it out')
        for name, value in (('centers_m', centers), ('scores', scores), ('ids', ids)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.centers_m)

    def select(self, kept: npt.NDArray[Any]) -> Predictions:
        """Returns those of a mask or of indices."""
        return Predictions(self.centers_m[kept], self.scores[kept], None if self.ids is None else self.ids[kept])


@dataclass(frozen=True)
class CrowdFrame:
    """A frame: its sequence, its people, the predictions, and the tracks; None where nothing was tracked.

    Frames of a sequence are in order of time.
    """

    sequence: str
    people: People
    found: Predictions
    tracks: Predictions | None = None


@dataclass(frozen=True)
class CrowdTable:
    """All frames one after another; frame f has the rows starts[f] to starts[f + 1].

    centers_m (N, 3), counted (N,), occlusion (N,), points (N,): the people; starts (F + 1,); found_m (M, 3), scores
    (M,), found_starts (F + 1,): the predictions; sequence (F,): index into `names`.
    """

    centers_m: Floats
    counted: Bools
    occlusion: Ints
    points: Ints
    starts: Ints
    found_m: Floats
    scores: Floats
    found_starts: Ints
    sequence: Ints
    names: tuple[str, ...]

    @property
    def person_sequence(self) -> Ints:
        """The sequence of each person."""
        return np.repeat(self.sequence, np.diff(self.starts))

    @property
    def found_sequence(self) -> Ints:
        """The sequence of each prediction."""
        return np.repeat(self.sequence, np.diff(self.found_starts))


def in_scored_area(centers_m: Floats, options: CrowdOptions) -> Bools:
    """Says which positions (N, 3) lie in the sector and range of `options`."""
    inside = np.ones(len(centers_m), bool)
    if options.sector:
        inside &= centers_m[:, 0] >= 0
    if options.range_m is not None:
        inside &= np.hypot(centers_m[:, 0], centers_m[:, 1]) <= options.range_m
    return inside


def make_table(frames: Sequence[CrowdFrame], options: CrowdOptions) -> CrowdTable:
    """Returns the table of frames: people out of the area are not counted, predictions there are dropped.

    Of a frame at most `max_dets` predictions are kept, those of highest score, the earlier of equal ones.

    Raises:
        InputError: there are no frames.
    """
    if not frames:
        raise InputError('there are no frames to score')
    found = []
    for frame in frames:
        kept = np.flatnonzero(in_scored_area(frame.found.centers_m, options))
        if options.max_dets is not None and len(kept) > options.max_dets:
            best = np.argsort(-frame.found.scores[kept], kind='stable')[: options.max_dets]
            kept = np.sort(kept[best])
        found.append(frame.found.select(kept))
    names = tuple(dict.fromkeys(frame.sequence for frame in frames))
    place = {name: index for index, name in enumerate(names)}
    people = [frame.people for frame in frames]
    centers = np.concatenate([part.centers_m for part in people])
    ignored = np.concatenate([np.asarray(part.ignored) for part in people])
    return CrowdTable(
        centers_m=centers,
        counted=~ignored & in_scored_area(centers, options),
        occlusion=np.concatenate([np.asarray(part.occlusion) for part in people]),
        points=np.concatenate([np.asarray(part.points) for part in people]),
        starts=np.cumsum([0, *map(len, people)]),
        found_m=np.concatenate([part.centers_m for part in found]),
        scores=np.concatenate([part.scores for part in found]),
        found_starts=np.cumsum([0, *map(len, found)]),
        sequence=np.array([place[frame.sequence] for frame in frames], np.int64),
        names=names,
    )
