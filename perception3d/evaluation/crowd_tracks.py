"""Scores of the tracks of crowds: which people and which boxes of tracks count; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.evaluation.bootstrap import known
from perception3d.evaluation.crowd_frames import CrowdFrame, Predictions, in_scored_area
from perception3d.evaluation.crowd_options import TRACK_DISTANCES_M, CrowdOptions
from perception3d.evaluation.tracking import (
    SequenceOfTracks,
    TrackedFrame,
    average_mota,
    count_tracks,
    prepare_sequence,
    track_ratios,
)

Samples = dict[str, npt.NDArray[Any]]


def score_tracks(
    frames: Sequence[CrowdFrame], options: CrowdOptions, weights: npt.NDArray[Any]
) -> tuple[dict[str, dict[str, float | None]], Samples]:
    """Returns the scores of tracks in percent by distance of TRACK_DISTANCES_M, and those of bootstrap samples by path.

    `mota`, `idf1`, `mt` and `ml` of every distance, at the last one also `amota`: see `evaluation.tracking`. Distances
    are in the plane. Ignored people, those out of the area and those without an identity are neither to be tracked nor
    false; boxes out of the area and boxes without an identity are dropped.

    Args:
        frames: in order of time within each sequence.
        options: the area.
        weights: (R, S) how often a bootstrap sample draws each sequence, in the order in which they first occur.
    """
    by_sequence: dict[str, list[TrackedFrame]] = {}
    for frame in frames:
        by_sequence.setdefault(frame.sequence, []).append(_tracked(frame, options))
    sequences = [prepare_sequence(part) for part in by_sequence.values()]
    scores: dict[str, dict[str, float | None]] = {}
    samples: Samples = {}
    for bound in TRACK_DISTANCES_M:
        ratios = track_ratios([count_tracks(sequence, bound) for sequence in sequences])
        scores[f'{bound}'] = {name: ratio.value for name, ratio in ratios.items()}
        samples.update({f'tracking/{bound}/{name}': ratio.of(weights) for name, ratio in ratios.items()})
    scores[f'{TRACK_DISTANCES_M[-1]}']['amota'] = _amota(sequences)
    return scores, samples


def _amota(sequences: Sequence[SequenceOfTracks]) -> float | None:
    value = average_mota(sequences, TRACK_DISTANCES_M[-1])
    return None if value is None else known(value)


def _tracked(frame: CrowdFrame, options: CrowdOptions) -> TrackedFrame:
    people, boxes = frame.people, frame.tracks or Predictions(np.zeros((0, 3)), np.zeros(0))
    ids, own = np.asarray(people.ids), np.full(len(boxes), -1) if boxes.ids is None else boxes.ids
    wanted = ~np.asarray(people.ignored) & in_scored_area(people.centers_m, options) & (ids >= 0)
    kept = in_scored_area(boxes.centers_m, options) & (own >= 0)
    return TrackedFrame(
        ids[wanted],
        people.centers_m[wanted, :2],
        people.centers_m[~wanted, :2],
        own[kept],
        boxes.centers_m[kept, :2],
        boxes.scores[kept],
    )
