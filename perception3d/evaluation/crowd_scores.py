"""Scores of crowds by the distance of centres: AP, recall by occlusion, density, range, points, rates; no torch.

The metric is that of STCrowd's site (Cong et al., CVPR 2022): AP at 0.25, 0.5 and 1 m, and AR of each level of
occlusion. There is no official tool; what the site leaves open is a setting of `CrowdOptions`. The bins, the rates, the
counting error and the intervals are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.evaluation.bootstrap import Ratio, intervals, known, sequence_weights
from perception3d.evaluation.crowd_frames import Bools, CrowdFrame, CrowdTable, Ints, make_table
from perception3d.evaluation.crowd_matching import (
    ABSENT,
    COUNTED,
    IGNORED,
    LEFT_OUT,
    area_ap,
    count_within,
    match_people,
    nuscenes_ap,
)
from perception3d.evaluation.crowd_options import (
    BINS,
    DISTANCES_M,
    NEIGHBOUR_RADIUS_M,
    OCCLUSIONS,
    RATE_DISTANCE_M,
    CrowdOptions,
)
from perception3d.evaluation.crowd_tracks import score_tracks

READINGS = ('3d', 'bev')
_BOUNDS = np.array(DISTANCES_M)
_RATE = DISTANCES_M.index(RATE_DISTANCE_M)


@dataclass(frozen=True)
class CrowdScores:
    """Scores in the form of JSON, and what was counted.

    scores: see `score_crowds`; frames, sequences, people, ignored, predictions: their numbers.
    """

    scores: dict[str, Any]
    frames: int
    sequences: int
    people: int
    ignored: int
    predictions: int
    notes: list[str] = field(default_factory=list)


def score_crowds(frames: Sequence[CrowdFrame], options: CrowdOptions | None = None) -> CrowdScores:
    """Returns all scores of frames.

    By falling score each prediction takes the nearest person of its frame that is left and closer than a distance of
    DISTANCES_M, strictly; of equal scores the earlier prediction. Ignored people are neither to be found nor false: a
    prediction that takes nobody and is that close to one of them is left out, however many they are. What is dropped
    or ignored from the start is in `CrowdOptions`.

    `scores` has for `3d` (distance of the middles of the boxes) and for `bev` (in the plane):

    - `ap`: in percent, by distance, and their `mean`.
    - `ar`: `overall`, recall in percent, the mean over the distances; `occlusion`: the same of each level.
    - `recall`: the same `by_density` (other annotated people closer than 2 m in the plane, ignored ones too),
      `by_range` (m, in the plane) and `by_points` (LiDAR points in the box).
    - `duplicate_rate`: of the predictions that are not left out, the share that takes nobody although a counted person
      is closer than 0.5 m: a prediction of higher score took that person. In 0..1.
    - `merge_rate`: of the counted people, the share that nobody takes although a prediction is closer than 0.5 m: it
      took another person, so that two people have one prediction. In 0..1.

    `counting_error` is the mean over frames of |predictions - counted people|, the predictions without those left out
    at 1 m in the plane. AR, recall, the rates and the counting error are of predictions from `score_thr` on. A score
    is None where there is nothing to be found. `tracking`, where a frame has tracks: see `score_tracks`. `interval`:
    from 2.5 to 97.5 percent of the bootstrap over sequences, by the path of the score (not of AMOTA), where there are
    two sequences or more and the score is known in all samples.

    Raises:
        InputError: there are no frames.
    """
    options = options or CrowdOptions()
    table = make_table(frames, options)
    weights = sequence_weights(len(table.names), options.samples, options.seed)
    scores: dict[str, Any] = {}
    samples: dict[str, npt.NDArray[Any]] = {}
    for reading in READINGS:
        _score_reading(table, reading, options, weights, (scores, samples))
    if any(frame.tracks is not None for frame in frames):
        scores['tracking'], of_tracks = score_tracks(frames, options, weights)
        samples.update(of_tracks)
    if len(weights):
        scores['interval'] = dict(intervals(samples))
    counted = int(table.counted.sum())
    sizes = (len(frames), len(table.names), counted, len(table.counted) - counted, len(table.scores))
    return CrowdScores(scores, *sizes)


def _score_reading(
    table: CrowdTable,
    reading: str,
    options: CrowdOptions,
    weights: Ints,
    into: tuple[dict[str, Any], dict[str, npt.NDArray[Any]]],
) -> None:
    """Adds the scores of a reading of the distance, and those of the bootstrap samples by path."""
    scores, samples = into
    matches, strong = _match(table, reading == '3d', _roles(table)), table.scores >= options.score_thr
    average = _average_precision(table, matches, options)
    every = average(np.ones((1, len(table.names)), np.int64))
    scores[reading] = {'ap': {key: known(value[0]) for key, value in every.items()}}
    samples.update({f'{reading}/ap/{key}': value for key, value in average(weights).items()})
    own = dict(_recalls(table, matches, strong, reading, options))
    own.update(_rates(table, matches[_RATE], strong, reading == '3d'))
    ratios = {f'{reading}/{path}': ratio for path, ratio in own.items()}
    if reading == 'bev':
        ratios['counting_error'] = _counting_error(table, matches[-1], strong)
    for path, ratio in ratios.items():
        _put(scores, path, ratio.value)
        samples[path] = ratio.of(weights)


def _put(scores: dict[str, Any], path: str, value: float | None) -> None:
    *parents, leaf = path.split('/')
    for name in parents:
        scores = scores.setdefault(name, {})
    scores[leaf] = value


def _roles(table: CrowdTable, wanted: Bools | None = None) -> npt.NDArray[Any]:
    """Roles (N,) of people: all, or with `wanted` only these."""
    roles = np.where(table.counted, COUNTED, IGNORED)
    return (roles if wanted is None else np.where(wanted & table.counted, COUNTED, ABSENT)).astype(np.int8)


def _match(table: CrowdTable, in_space: bool, roles: npt.NDArray[Any]) -> Ints:
    frame_of = np.repeat(np.arange(len(table.starts) - 1), np.diff(table.found_starts))
    order = np.lexsort((-table.scores, frame_of))
    people, found = (table.centers_m, roles, table.starts), (table.found_m, table.found_starts)
    return np.asarray(match_people(people, found, order, _BOUNDS, in_space), np.int64)


def _average_precision(
    table: CrowdTable, matches: Ints, options: CrowdOptions
) -> Callable[[Ints], dict[str, npt.NDArray[Any]]]:
    """Returns the function that gives AP in percent (R,) by distance for weights (R, S) of the sequences."""
    order = np.argsort(-table.scores, kind='stable')
    order = order[table.scores[order] >= options.ap_score_thr]
    sequence, people = table.found_sequence, _by_sequence(table, table.person_sequence, table.counted)
    kernel = nuscenes_ap if options.ap == 'nus' else area_ap

    def average(weights: Ints) -> dict[str, npt.NDArray[Any]]:
        out = {}
        for bound, match in zip(DISTANCES_M, matches):
            rows = order[match[order] != LEFT_OUT]
            hits, of, values = match[rows] >= 0, sequence[rows], np.full(len(weights), np.nan)
            for r, own in enumerate(weights):
                if (total := float(own @ people)) > 0:
                    values[r] = 100 * kernel(hits, of, own, total)
            out[f'{bound}'] = values
        return {**out, 'mean': np.mean(list(out.values()), axis=0)}

    return average


def _by_sequence(table: CrowdTable, sequence: Ints, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.bincount(sequence, np.asarray(values, np.float64), len(table.names))


def _found_share(table: CrowdTable, matches: Ints, strong: Bools) -> npt.NDArray[Any]:
    """The share of the distances at which a strong prediction takes each person (N,)."""
    share = np.zeros(len(table.centers_m))
    for match in matches:
        share[match[strong & (match >= 0)]] += 1 / len(matches)
    return share


def _recalls(
    table: CrowdTable, matches: Ints, strong: Bools, reading: str, options: CrowdOptions
) -> Iterator[tuple[str, Ratio]]:
    share, of = _found_share(table, matches, strong), table.person_sequence

    def recall(rows: Bools, found: npt.NDArray[Any]) -> Ratio:
        rows = rows & table.counted
        return Ratio(_by_sequence(table, of, found * rows), _by_sequence(table, of, rows), 100)

    yield 'ar/overall', recall(table.counted, share)
    for level in OCCLUSIONS:
        rows, found = table.occlusion == level, share
        if options.ar_match == 'per_level':
            found = _found_share(table, _match(table, reading == '3d', _roles(table, rows)), strong)
        yield f'ar/occlusion/{level}', recall(rows, found)
    everyone, people = np.ones(len(table.counted), bool), (table.centers_m, table.starts)
    values = {
        # Everybody is closer than 2 m to himself.
        'by_density': count_within(people, people, everyone, NEIGHBOUR_RADIUS_M, False) - 1,
        'by_range': np.hypot(table.centers_m[:, 0], table.centers_m[:, 1]),
        'by_points': table.points,
    }
    for kind, bins in BINS.items():
        for name, (low, high) in bins.items():
            yield f'recall/{kind}/{name}', recall((values[kind] >= low) & (values[kind] < high), share)


def _rates(table: CrowdTable, match: Ints, strong: Bools, in_space: bool) -> Iterator[tuple[str, Ratio]]:
    people, found = (table.centers_m, table.starts), (table.found_m, table.found_starts)
    kept = strong & (match != LEFT_OUT)
    again = kept & (match < 0) & (count_within(found, people, table.counted, RATE_DISTANCE_M, in_space) > 0)
    of = table.found_sequence
    yield 'duplicate_rate', Ratio(_by_sequence(table, of, again), _by_sequence(table, of, kept))
    missed = table.counted.copy()
    missed[match[strong & (match >= 0)]] = False
    merged = missed & (count_within(people, found, strong, RATE_DISTANCE_M, in_space) > 0)
    of = table.person_sequence
    yield 'merge_rate', Ratio(_by_sequence(table, of, merged), _by_sequence(table, of, table.counted))


def _counting_error(table: CrowdTable, match: Ints, strong: Bools) -> Ratio:
    kept, counted = (
        np.add.reduceat(np.append(rows, 0).astype(np.int64), starts[:-1]) * (np.diff(starts) > 0)
        for rows, starts in ((strong & (match != LEFT_OUT), table.found_starts), (table.counted, table.starts))
    )
    errors = np.abs(kept - counted)
    return Ratio(_by_sequence(table, table.sequence, errors), np.bincount(table.sequence, minlength=len(table.names)))
