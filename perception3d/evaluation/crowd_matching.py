"""Numba kernels of the crowd metrics: which prediction finds which person, who is near to whom, average precision."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

_jit = partial(njit, cache=True, nogil=True, error_model='numpy')

COUNTED, IGNORED, ABSENT = 1, 0, -1
"""Roles of people in `match_people`."""
NOBODY, LEFT_OUT = -1, -2
"""Entries of its result that are no person."""

_LEAST_RECALL, _LEAST_PRECISION = 0.1, 0.1


@_jit()
def _distance(a: npt.NDArray[Any], b: npt.NDArray[Any], in_space: bool) -> float:
    dx, dy = a[0] - b[0], a[1] - b[1]
    dz = a[2] - b[2] if in_space else 0.0
    return math.sqrt(dx * dx + dy * dy + dz * dz)


@_jit()
def match_people(
    people: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]],
    found: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    order: npt.NDArray[Any],
    bounds_m: npt.NDArray[Any],
    in_space: bool,
) -> npt.NDArray[Any]:
    """Returns the person whom each prediction finds, by bound: (K, M) row of the person, NOBODY or LEFT_OUT.

    By falling score each prediction takes the nearest counted person of its frame that is left and closer than the
    bound. One that gets nobody is left out if an ignored person is closer than the bound; they are never used up.

    Args:
        people: centers (N, 3), roles (N,) int8, starts (F + 1,).
        found: centers (M, 3), starts (F + 1,).
        order: (M,) predictions by frame, then by falling score.
        bounds_m: (K,) metres.
        in_space: whether the height counts, too.
    """
    centers, roles, starts = people
    own, own_starts = found
    bounds = bounds_m.shape[0]
    matches = np.full((bounds, own.shape[0]), NOBODY, np.int64)
    taken = np.zeros((bounds, centers.shape[0]), np.bool_)
    best, best_m = np.empty(bounds, np.int64), np.empty(bounds)
    for frame in range(starts.shape[0] - 1):
        for place in range(own_starts[frame], own_starts[frame + 1]):
            j = order[place]
            near_ignored = np.inf
            for k in range(bounds):
                best[k], best_m[k] = NOBODY, bounds_m[k]
            for i in range(starts[frame], starts[frame + 1]):
                if roles[i] == ABSENT:
                    continue
                distance = _distance(centers[i], own[j], in_space)
                if roles[i] == IGNORED:
                    near_ignored = min(near_ignored, distance)
                    continue
                for k in range(bounds):
                    if distance < best_m[k] and not taken[k, i]:
                        best[k], best_m[k] = i, distance
            for k in range(bounds):
                if best[k] >= 0:
                    taken[k, best[k]] = True
                    matches[k, j] = best[k]
                elif near_ignored < bounds_m[k]:
                    matches[k, j] = LEFT_OUT
    return matches


@_jit()
def count_within(
    first: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    second: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    wanted: npt.NDArray[Any],
    bound_m: float,
    in_space: bool,
) -> npt.NDArray[Any]:
    """Returns for each of the first (N,) how many `wanted` of the second of its frame are closer than the bound.

    Args:
        first, second: centers (N, 3) and (M, 3), starts (F + 1,) of the same frames.
        wanted: (M,) bool.
        bound_m: metres.
        in_space: whether the height counts, too.
    """
    counts = np.zeros(first[0].shape[0], np.int64)
    for frame in range(first[1].shape[0] - 1):
        for i in range(first[1][frame], first[1][frame + 1]):
            for j in range(second[1][frame], second[1][frame + 1]):
                if wanted[j] and _distance(first[0][i], second[0][j], in_space) < bound_m:
                    counts[i] += 1
    return counts


@_jit()
def nuscenes_ap(hits: npt.NDArray[Any], sequence: npt.NDArray[Any], weights: npt.NDArray[Any], total: float) -> float:
    """Average precision as nuScenes has it, in 0..1.

    Precision is interpolated linearly at 101 recalls; the mean of those above 0.1, less 0.1, divided by 0.9. Source:
    detection_cvpr_2019 of the nuScenes devkit; Caesar et al. 2020, section 4.1.

    Args:
        hits: (M,) whether a prediction found somebody, by falling score.
        sequence: (M,) to which sequence it belongs.
        weights: (S,) how often each sequence counts; a prediction that counts twice is one step of the curve.
        total: people to be found, with their weights; above 0.
    """
    out, step, found, seen = 0.0, 0, 0, 0
    for j in range(hits.shape[0]):
        weight = weights[sequence[j]]
        if weight == 0:
            continue
        seen += weight
        if not hits[j]:
            continue
        found += weight
        recall = found / total
        # Recalls as numpy's linspace(0, 1, 101) has them, to the last bit.
        if step > 100 or step * 0.01 >= recall:
            continue
        precision, slope, before, before_recall = found / seen, 0.0, found / seen, recall
        if seen > weight:
            before, before_recall = (found - weight) / (seen - weight), (found - weight) / total
            slope = (precision - before) / (recall - before_recall)
        while step <= 100 and step * 0.01 < recall:
            if step > 100 * _LEAST_RECALL:
                out += max(slope * (step * 0.01 - before_recall) + before - _LEAST_PRECISION, 0.0)
            step += 1
    # The last recall is still that of the last prediction; beyond it precision is 0.
    if 100 * _LEAST_RECALL < step <= 100 and step * 0.01 == found / total:
        out += max(found / seen - _LEAST_PRECISION, 0.0)
    return min(out / 90 / (1 - _LEAST_PRECISION), 1.0)


@_jit()
def area_ap(hits: npt.NDArray[Any], sequence: npt.NDArray[Any], weights: npt.NDArray[Any], total: float) -> float:
    """Area under the curve of precision and recall, in 0..1; each precision is the best at this recall or more.

    Arguments as of `nuscenes_ap`. Source: the PASCAL VOC development kit from 2010 on.
    """
    precision, gain = np.empty(hits.shape[0]), np.empty(hits.shape[0])
    size, found, seen = 0, 0, 0
    for j in range(hits.shape[0]):
        weight = weights[sequence[j]]
        seen += weight
        if hits[j] and weight > 0:
            found += weight
            precision[size], gain[size] = found / seen, weight / total
            size += 1
    out, best = 0.0, 0.0
    for k in range(size - 1, -1, -1):
        best = max(best, precision[k])
        out += best * gain[k]
    return min(out, 1.0)
