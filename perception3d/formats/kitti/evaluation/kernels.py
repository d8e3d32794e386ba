"""Numba kernels of the KITTI evaluation: which objects and detections overlap, and a precision curve from that.

The rules are those of the C++ development kit of KITTI's object benchmark (Geiger et al. 2012; BEV, 3D and 40 recall
points after Simonelli et al. 2019), in float64 and in its order of comparisons. What the kit computes for each of 41
score thresholds anew is computed once here: a frame's overlaps serve all classes, difficulties and thresholds.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numba import njit

from perception3d.formats.kitti.evaluation.reading import (
    ALPHA,
    BOX_2D,
    HEIGHT,
    LENGTH,
    OCCLUDED,
    ROTATION_Y,
    SCORE,
    TRUNCATED,
    WIDTH,
    X,
    Y,
    Z,
)
from perception3d.geometry.overlap import overlap_area, prepare

POINTS = 41
"""Recall is sampled at 0, 1/40 .. 1."""
_DONTCARE = 5
_COUNTS, _IGNORED, _OTHER = 0, 1, -1
# Scores at or below it are never matched by the kit when it looks for thresholds.
_NO_SCORE = -1e7


# No division here needs a test for zero, and compiling takes a third of the time without.
_jit = partial(njit, cache=True, nogil=True, error_model='numpy')


def ground_rows(numbers: np.ndarray) -> np.ndarray:
    """Rows of `geometry.overlap.prepare` for labels (N, 14) or results (N, 15), on the ground plane (x, z)."""
    sizes = numbers[:, [LENGTH, WIDTH]]
    # Both negative is the same rectangle turned by half a turn: that is how DontCare regions are written.
    sizes = np.where((sizes < 0).all(1, keepdims=True), -sizes, sizes)
    bev = np.column_stack([numbers[:, [X, Z]], sizes, -numbers[:, ROTATION_Y]])
    return prepare(bev, numbers[:, Y] - numbers[:, HEIGHT], numbers[:, Y].copy())


@_jit()
def _three_overlaps(
    found: np.ndarray,
    truth: np.ndarray,
    found_row: np.ndarray,
    truth_row: np.ndarray,
    of_found: bool,
    poly: np.ndarray,
    spare: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fills `out` (3,): intersection over union in the image, on the ground and in space; 0 where it is undefined.

    With `of_found` it is the intersection over the detection's own area or volume.
    """
    out[0], out[1], out[2] = 0.0, 0.0, 0.0
    b = BOX_2D
    wide = min(found[b + 2], truth[b + 2]) - max(found[b], truth[b])
    tall = min(found[b + 3], truth[b + 3]) - max(found[b + 1], truth[b + 1])
    if wide > 0.0 and tall > 0.0:
        both = wide * tall
        own = (found[b + 2] - found[b]) * (found[b + 3] - found[b + 1])
        other = (truth[b + 2] - truth[b]) * (truth[b + 3] - truth[b + 1])
        out[0] = both / own if of_found else both / (own + other - both)
    area = overlap_area(found_row, truth_row, poly, spare)
    if area > 0.0:
        own = found[LENGTH] * found[WIDTH]
        out[1] = area / own if of_found else area / (own + truth[LENGTH] * truth[WIDTH] - area)
        high = min(found[Y], truth[Y]) - max(found[Y] - found[HEIGHT], truth[Y] - truth[HEIGHT])
        if high > 0.0:
            both, own = area * high, found[HEIGHT] * found[LENGTH] * found[WIDTH]
            other = truth[HEIGHT] * truth[LENGTH] * truth[WIDTH]
            out[2] = both / own if of_found else both / (own + other - both)


@_jit()
def _twice_as_long(partners: np.ndarray, overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = partners.shape[0]
    # Loops, because numba takes seconds to compile the checks of an assignment to a slice.
    more, more_overlaps = np.empty(2 * size, np.int64), np.empty((2 * size, 3))
    for i in range(size):
        more[i] = partners[i]
        for k in range(3):
            more_overlaps[i, k] = overlaps[i, k]
    return more, more_overlaps


@_jit()
def find_pairs(
    truth_codes: np.ndarray,
    truth: np.ndarray,
    truth_rows: np.ndarray,
    truth_starts: np.ndarray,
    found: np.ndarray,
    found_rows: np.ndarray,
    found_starts: np.ndarray,
    least: np.ndarray,
    counts: np.ndarray,
    stuff: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the objects and detections of the same frame that overlap by more than `least` (3,) in any metric.

    Args:
        truth_codes: (N,) types of the objects; detections are also compared with DontCare regions.
        truth, found: (N, 14) labels and (M, 15) results of all frames.
        truth_rows, found_rows: their `ground_rows`.
        truth_starts, found_starts: (F + 1,) rows of the frames to work on.
        least: overlaps up to these matter to no class.
        counts: (N,) filled with the number of detections that overlap each object of these frames.
        stuff: (M, 3), zeros, filled with the largest share of each detection of these frames in a DontCare region.

    Returns:
        partners (P,): detections that overlap the objects, object by object, ascending; overlaps (P, 3): IoU in the
        image, on the ground and in space.
    """
    partners, overlaps, size = np.empty(1024, np.int64), np.empty((1024, 3)), 0
    poly, spare, values = np.empty((12, 2)), np.empty((12, 2)), np.empty(3)
    for frame in range(truth_starts.shape[0] - 1):
        for i in range(truth_starts[frame], truth_starts[frame + 1]):
            before, dontcare = size, truth_codes[i] == _DONTCARE
            for j in range(found_starts[frame], found_starts[frame + 1]):
                _three_overlaps(found[j], truth[i], found_rows[j], truth_rows[i], dontcare, poly, spare, values)
                if dontcare:
                    for k in range(3):
                        stuff[j, k] = max(stuff[j, k], values[k])
                elif values[0] > least[0] or values[1] > least[1] or values[2] > least[2]:
                    if size == partners.shape[0]:
                        partners, overlaps = _twice_as_long(partners, overlaps)
                    partners[size] = j
                    for k in range(3):
                        overlaps[size, k] = values[k]
                    size += 1
            counts[i] = size - before
    return partners[:size], overlaps[:size]


@_jit()
def object_role(
    code: int,
    label: np.ndarray,
    class_code: int,
    neighbour: int,
    min_height_px: float,
    above: bool,
    max_occlusion: float,
    max_truncation: float,
) -> int:
    """0: must be found; 1: may be found, of a neighbouring class or too hard; -1: another class.

    With `above` an object must be higher than the least height, otherwise it may also be equal.
    """
    if code == class_code:
        height = label[BOX_2D + 3] - label[BOX_2D + 1]
        hard = label[OCCLUDED] > max_occlusion or label[TRUNCATED] > max_truncation
        low = height <= min_height_px if above else height < min_height_px
        return _IGNORED if hard or low else _COUNTS
    return _IGNORED if code == neighbour else _OTHER


@_jit()
def _thresholds(falling: np.ndarray, count: int, objects: int, out: np.ndarray) -> int:
    """Writes the scores at which recall comes closest to 0, 1/40 .. 1; returns their number, at most 41.

    `falling` holds the `count` scores of true positives, sorted.
    """
    chosen, recall, last = 0, 0.0, count - 1
    for i in range(count):
        here = (i + 1) / objects
        after = (i + 2) / objects if i < last else here
        if after - recall < recall - here and i < last:
            continue
        if chosen < POINTS:
            out[chosen] = falling[i]
            chosen += 1
        recall += 1.0 / (POINTS - 1.0)
    return chosen


@_jit()
def _true_positives(
    roles: np.ndarray, starts: np.ndarray, partners: np.ndarray, det_roles: np.ndarray, score: np.ndarray
) -> np.ndarray:
    """Says which detections (M,) are true positives if each object takes the best-scored one that is left."""
    taken, out = np.zeros(score.shape[0], np.bool_), np.zeros(score.shape[0], np.bool_)
    for i in range(roles.shape[0]):
        best, best_score = -1, _NO_SCORE
        for k in range(starts[i], starts[i + 1]):
            j = partners[k]
            if not taken[j] and score[j] > best_score:
                best, best_score = j, score[j]
        if best >= 0:
            taken[best] = True
            out[best] = roles[i] == _COUNTS and det_roles[best] == _COUNTS
    return out


@_jit()
def _match(
    threshold: float,
    mark: int,
    roles: np.ndarray,
    starts: np.ndarray,
    partners: np.ndarray,
    overlaps: np.ndarray,
    det_roles: np.ndarray,
    score: np.ndarray,
    differences: np.ndarray,
    in_stuff: np.ndarray,
    taken: np.ndarray,
) -> tuple[int, int, float]:
    """True positives, detections that counted as false and are matched, and the similarity of orientation.

    Each object takes the detection of largest overlap that counts; one that does not count only if it came when there
    was none. `taken` (M,) holds the mark of the last threshold at which a detection was matched.
    """
    hits, used, similarity = 0, 0, 0.0
    for i in range(roles.shape[0]):
        best, best_overlap, best_pair, best_counts = -1, 0.0, -1, False
        for k in range(starts[i], starts[i + 1]):
            j = partners[k]
            if taken[j] == mark or score[j] < threshold:
                continue
            if det_roles[j] == _COUNTS:
                if overlaps[k] > best_overlap or not best_counts:
                    best, best_overlap, best_pair, best_counts = j, overlaps[k], k, True
            elif best < 0:
                best = j
        if best < 0:
            continue
        taken[best] = mark
        if best_counts:
            used += not in_stuff[best]
            if roles[i] == _COUNTS:
                hits += 1
                similarity += (1.0 + math.cos(differences[best_pair])) / 2.0
    return hits, used, similarity


@_jit()
def _detection_roles(found_codes: np.ndarray, found: np.ndarray, class_code: int, min_height_px: float) -> np.ndarray:
    roles = np.empty(found.shape[0], np.int8)
    for j in range(found.shape[0]):
        # The kit tests the height first: low boxes of any class may be absorbed by an object, and are never false.
        low = abs(found[j, BOX_2D + 1] - found[j, BOX_2D + 3]) < min_height_px
        roles[j] = _IGNORED if low else (_COUNTS if found_codes[j] == class_code else _OTHER)
    return roles


@_jit()
def _candidates(
    rule: tuple[int, int, float, bool, float, float],
    metric: int,
    bound: float,
    truth_codes: np.ndarray,
    truth: np.ndarray,
    found: np.ndarray,
    det_roles: np.ndarray,
    pair_starts: np.ndarray,
    pairs: np.ndarray,
    pair_overlaps: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """The objects of the class and its neighbour that any detection matches, with those detections.

    Returns roles (n,), starts (n + 1,), by pair (p,) the detection, the overlap and the difference of alpha, and the
    number of objects that count, matched or not.
    """
    roles, starts = np.empty(truth.shape[0], np.int8), np.zeros(truth.shape[0] + 1, np.int64)
    partners, overlaps = np.empty(pairs.shape[0], np.int64), np.empty(pairs.shape[0])
    differences = np.empty(pairs.shape[0])
    objects, kept, size = 0, 0, 0
    for i in range(truth.shape[0]):
        role = object_role(truth_codes[i], truth[i], *rule)
        if role == _OTHER:
            continue
        objects += role == _COUNTS
        for k in range(pair_starts[i], pair_starts[i + 1]):
            if det_roles[pairs[k]] != _OTHER and pair_overlaps[k, metric] > bound:
                partners[size], overlaps[size] = pairs[k], pair_overlaps[k, metric]
                differences[size] = truth[i, ALPHA] - found[pairs[k], ALPHA]
                size += 1
        if size > starts[kept]:
            roles[kept] = role
            kept += 1
            starts[kept] = size
    return roles[:kept], starts[: kept + 1], partners, overlaps, differences, objects


@_jit()
def precision_curve(
    rule: tuple[int, int, float, bool, float, float],
    metric: int,
    bound: float,
    truth_codes: np.ndarray,
    truth: np.ndarray,
    found_codes: np.ndarray,
    found: np.ndarray,
    order: np.ndarray,
    pair_starts: np.ndarray,
    pairs: np.ndarray,
    pair_overlaps: np.ndarray,
    stuff: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Precision and similarity of orientation (41,) at the recalls 0, 1/40 .. 1, each the best from there on.

    Args:
        rule: class code, neighbour's code, least height in pixels, whether an object must be higher than that, largest
            occlusion and truncation, as of `object_role`.
        metric: 0 image, 1 ground, 2 space.
        bound: overlap that a match must exceed.
        truth_codes, truth, found_codes, found: all frames.
        order: (M,) detections by falling score.
        pair_starts: (N + 1,) rows in `pairs` (P,) and `pair_overlaps` (P, 3) of each object, from `find_pairs`.
        stuff: (M, 3) from `find_pairs`.

    Returns:
        Both curves (a recall without detections, or with none that counts, is 0), and the number of objects.
    """
    det_roles = _detection_roles(found_codes, found, rule[0], rule[2])
    roles, starts, partners, overlaps, differences, objects = _candidates(
        rule, metric, bound, truth_codes, truth, found, det_roles, pair_starts, pairs, pair_overlaps
    )
    score, falling, count = found[:, SCORE].copy(), np.empty(found.shape[0]), 0
    hit = _true_positives(roles, starts, partners, det_roles, score)
    for j in order:
        if hit[j]:
            falling[count] = score[j]
            count += 1
    thresholds = np.empty(POINTS)
    points = _thresholds(falling, count, objects, thresholds)

    precision, similarity = np.zeros(POINTS), np.zeros(POINTS)
    taken, in_stuff = np.zeros(found.shape[0], np.int64), stuff[:, metric] > bound
    place, could_be_false = 0, 0
    for t in range(points):
        while place < order.shape[0] and score[order[place]] >= thresholds[t]:
            could_be_false += det_roles[order[place]] == _COUNTS and not in_stuff[order[place]]
            place += 1
        hits, used, alike = _match(
            thresholds[t], t + 1, roles, starts, partners, overlaps, det_roles, score, differences, in_stuff, taken
        )
        all_counted = hits + could_be_false - used
        if all_counted > 0:
            precision[t], similarity[t] = hits / all_counted, alike / all_counted
    for t in range(POINTS - 2, -1, -1):
        precision[t], similarity[t] = max(precision[t], precision[t + 1]), max(similarity[t], similarity[t + 1])
    return precision, similarity, objects
