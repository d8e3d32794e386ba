"""Numba kernels of the KITTI evaluation: which objects and detections overlap, and a precision curve from that.

The rules are those of the C++ development kit of KITTI's object benchmark (Geiger et al. 2012; BEV, 3D and 40 recall
points after Simonelli et al. 2019), in float64 and in its order of comparisons. What the kit computes again for each of
41 score thresholds is computed once here: a frame's overlaps serve all classes, difficulties and thresholds.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
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
    TYPES,
    WIDTH,
    X,
    Y,
    Z,
)
from perception3d.geometry.overlap import overlap_area, prepare

POINTS = 41
"""Recall is sampled at 0, 1/40 .. 1."""
_DONTCARE = TYPES.index('dontcare')
_COUNTS, _IGNORED, _OTHER = 0, 1, -1
# Scores at or below it are never matched by the kit when it looks for thresholds.
_NO_SCORE = -1e7


# No division here needs a test for zero, and compiling takes a third of the time without.
_jit = partial(njit, cache=True, nogil=True, error_model='numpy')


class FrameObjects(NamedTuple):
    """All lines of the label or result files of F frames, DontCare regions too.

    codes (N,): place of the type in TYPES; numbers (N, 14, with a score 15): the other columns; ground (N, 10): rows of
    `ground_rows`; starts (F + 1,): first row of each frame.
    """

    codes: npt.NDArray[Any]
    numbers: npt.NDArray[Any]
    ground: npt.NDArray[Any]
    starts: npt.NDArray[Any]


class Pairs(NamedTuple):
    """The P pairs of an object and a detection that overlap.

    starts (N + 1,): rows of each object; detections (P,); overlaps (P, 3): IoU in the image, on the ground and in
    space; dontcare_overlap (M, 3): the largest share of each detection that lies in a DontCare region.
    """

    starts: npt.NDArray[Any]
    detections: npt.NDArray[Any]
    overlaps: npt.NDArray[Any]
    dontcare_overlap: npt.NDArray[Any]


class Rule(NamedTuple):
    """What counts for a class at a difficulty.

    class_code and neighbour (-1: none): codes of types. An object must have min_height_px, or more than that if
    `above`, and max_occlusion and max_truncation at most. metric: 0 image, 1 ground, 2 space. min_overlap: what a
    match must exceed.
    """

    class_code: int
    neighbour: int
    min_height_px: float
    above: bool
    max_occlusion: float
    max_truncation: float
    metric: int
    min_overlap: float


class _Candidates(NamedTuple):
    """The n objects of a class or its neighbour that any detection matches.

    roles (n,), starts (n + 1,), and by pair the detection, the overlap and the difference of alpha.
    """

    roles: npt.NDArray[Any]
    starts: npt.NDArray[Any]
    detections: npt.NDArray[Any]
    overlaps: npt.NDArray[Any]
    differences: npt.NDArray[Any]


class _Detections(NamedTuple):
    """By detection (M,): its role, its score, and whether it lies in a DontCare region."""

    roles: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    in_dontcare: npt.NDArray[Any]


def ground_rows(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows of `geometry.overlap.prepare` for labels (N, 14) or results (N, 15), on the ground plane (x, z)."""
    sizes = numbers[:, [LENGTH, WIDTH]]
    # Both negative is the same rectangle rotated by pi: that is how DontCare regions are written.
    sizes = np.where((sizes < 0).all(1, keepdims=True), -sizes, sizes)
    bev = np.column_stack([numbers[:, [X, Z]], sizes, -numbers[:, ROTATION_Y]])
    return prepare(bev, numbers[:, Y] - numbers[:, HEIGHT], numbers[:, Y].copy())


@_jit()
def _three_overlaps(
    pred: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    pred_row: npt.NDArray[Any],
    truth_row: npt.NDArray[Any],
    of_pred: bool,
    scratch: npt.NDArray[Any],
    out: npt.NDArray[Any],
) -> None:
    """Fills `out` (3,): intersection over union in the image, on the ground and in space; 0 where it is undefined.

    With `of_pred` it is the intersection over the detection's own area or volume. scratch (2, 12, 2) is for corners.
    """
    out[0], out[1], out[2] = 0.0, 0.0, 0.0
    b = BOX_2D
    wide = min(pred[b + 2], truth[b + 2]) - max(pred[b], truth[b])
    tall = min(pred[b + 3], truth[b + 3]) - max(pred[b + 1], truth[b + 1])
    if wide > 0.0 and tall > 0.0:
        both = wide * tall
        own = (pred[b + 2] - pred[b]) * (pred[b + 3] - pred[b + 1])
        other = (truth[b + 2] - truth[b]) * (truth[b + 3] - truth[b + 1])
        out[0] = both / own if of_pred else both / (own + other - both)
    area = overlap_area(pred_row, truth_row, scratch[0], scratch[1])
    if area > 0.0:
        own = pred[LENGTH] * pred[WIDTH]
        out[1] = area / own if of_pred else area / (own + truth[LENGTH] * truth[WIDTH] - area)
        high = min(pred[Y], truth[Y]) - max(pred[Y] - pred[HEIGHT], truth[Y] - truth[HEIGHT])
        if high > 0.0:
            both, own = area * high, pred[HEIGHT] * pred[LENGTH] * pred[WIDTH]
            other = truth[HEIGHT] * truth[LENGTH] * truth[WIDTH]
            out[2] = both / own if of_pred else both / (own + other - both)


@_jit()
def _grow(partners: npt.NDArray[Any], overlaps: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
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
    truth: FrameObjects,
    pred: FrameObjects,
    min_overlaps: npt.NDArray[Any],
    counts: npt.NDArray[Any],
    dontcare_overlap: npt.NDArray[Any],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Finds the objects and detections of the same frame that overlap by more than `min_overlaps` (3,) in any metric.

    Args:
        truth, pred: labels and results of all frames, with `starts` of the frames to work on. Detections are also
            compared with DontCare regions.
        min_overlaps: overlaps up to these matter to no class.
        counts: (N,) filled with the number of detections that overlap each object of these frames.
        dontcare_overlap: (M, 3), zeros, filled with the largest share of each detection of these frames in a DontCare
            region.

    Returns:
        detections (P,) that overlap the objects, object by object, ascending; overlaps (P, 3): IoU in the image, on the
        ground and in space.
    """
    partners, overlaps, size = np.empty(1024, np.int64), np.empty((1024, 3)), 0
    scratch, values = np.empty((2, 12, 2)), np.empty(3)
    for frame in range(truth.starts.shape[0] - 1):
        for i in range(truth.starts[frame], truth.starts[frame + 1]):
            before, is_dontcare = size, truth.codes[i] == _DONTCARE
            for j in range(pred.starts[frame], pred.starts[frame + 1]):
                _three_overlaps(
                    pred.numbers[j], truth.numbers[i], pred.ground[j], truth.ground[i], is_dontcare, scratch, values
                )
                if is_dontcare:
                    for k in range(3):
                        dontcare_overlap[j, k] = max(dontcare_overlap[j, k], values[k])
                elif values[0] > min_overlaps[0] or values[1] > min_overlaps[1] or values[2] > min_overlaps[2]:
                    if size == partners.shape[0]:
                        partners, overlaps = _grow(partners, overlaps)
                    partners[size] = j
                    for k in range(3):
                        overlaps[size, k] = values[k]
                    size += 1
            counts[i] = size - before
    return partners[:size], overlaps[:size]


@_jit()
def object_role(code: int, label: npt.NDArray[Any], rule: Rule) -> int:
    """0: must be detected; 1: may be detected, of a neighbouring class or too hard; -1: another class."""
    if code == rule.class_code:
        height = label[BOX_2D + 3] - label[BOX_2D + 1]
        hard = label[OCCLUDED] > rule.max_occlusion or label[TRUNCATED] > rule.max_truncation
        low = height <= rule.min_height_px if rule.above else height < rule.min_height_px
        return _IGNORED if hard or low else _COUNTS
    return _IGNORED if code == rule.neighbour else _OTHER


@_jit()
def _thresholds(scores_descending: npt.NDArray[Any], count: int, objects: int, out: npt.NDArray[Any]) -> int:
    """Writes the scores at which recall comes closest to 0, 1/40 .. 1; returns their number, at most 41.

    `scores_descending` holds the `count` scores of true positives, sorted.
    """
    chosen, recall, last = 0, 0.0, count - 1
    for i in range(count):
        here = (i + 1) / objects
        after = (i + 2) / objects if i < last else here
        if after - recall < recall - here and i < last:
            continue
        if chosen < POINTS:
            out[chosen] = scores_descending[i]
            chosen += 1
        recall += 1.0 / (POINTS - 1.0)
    return chosen


@_jit()
def _true_positives(candidates: _Candidates, pred: _Detections) -> npt.NDArray[Any]:
    """Says which detections (M,) are true positives if each object takes the best-scored one that is left."""
    taken, out = np.zeros(pred.scores.shape[0], np.bool_), np.zeros(pred.scores.shape[0], np.bool_)
    for i in range(candidates.roles.shape[0]):
        best, best_score = -1, _NO_SCORE
        for k in range(candidates.starts[i], candidates.starts[i + 1]):
            j = candidates.detections[k]
            if not taken[j] and pred.scores[j] > best_score:
                best, best_score = j, pred.scores[j]
        if best >= 0:
            taken[best] = True
            out[best] = candidates.roles[i] == _COUNTS and pred.roles[best] == _COUNTS
    return out


@_jit()
def _match(
    threshold: float, mark: int, candidates: _Candidates, pred: _Detections, taken: npt.NDArray[Any]
) -> tuple[int, int, float]:
    """True positives, detections that counted as false and are matched, and the similarity of orientation.

    Each object takes the detection of largest overlap that counts. An ignored detection is taken only if no other
    matched before it. `taken` (M,) holds the mark of the last threshold at which a detection was matched.
    """
    hits, matched, similarity = 0, 0, 0.0
    for i in range(candidates.roles.shape[0]):
        best, best_overlap, best_pair, best_counts = -1, 0.0, -1, False
        for k in range(candidates.starts[i], candidates.starts[i + 1]):
            j = candidates.detections[k]
            if taken[j] == mark or pred.scores[j] < threshold:
                continue
            if pred.roles[j] == _COUNTS:
                if candidates.overlaps[k] > best_overlap or not best_counts:
                    best, best_overlap, best_pair, best_counts = j, candidates.overlaps[k], k, True
            elif best < 0:
                best = j
        if best < 0:
            continue
        taken[best] = mark
        if best_counts:
            matched += not pred.in_dontcare[best]
            if candidates.roles[i] == _COUNTS:
                hits += 1
                similarity += (1.0 + math.cos(candidates.differences[best_pair])) / 2.0
    return hits, matched, similarity


@_jit()
def _detection_roles(pred: FrameObjects, class_code: int, min_height_px: float) -> npt.NDArray[Any]:
    roles = np.empty(pred.numbers.shape[0], np.int8)
    for j in range(pred.numbers.shape[0]):
        # The kit tests the height first: low boxes of any class may be absorbed by an object, and are never false.
        low = abs(pred.numbers[j, BOX_2D + 1] - pred.numbers[j, BOX_2D + 3]) < min_height_px
        roles[j] = _IGNORED if low else (_COUNTS if pred.codes[j] == class_code else _OTHER)
    return roles


@_jit()
def _candidates(
    truth: FrameObjects,
    pred: FrameObjects,
    both_roles: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    pairs: Pairs,
    metric: int,
    min_overlap: float,
) -> tuple[_Candidates, int]:
    """The objects that any detection matches, with those detections; also the number of objects that count."""
    truth_roles, roles = both_roles
    own_roles, starts = np.empty(truth.codes.shape[0], np.int8), np.zeros(truth.codes.shape[0] + 1, np.int64)
    size = pairs.detections.shape[0]
    partners, overlaps, differences = np.empty(size, np.int64), np.empty(size), np.empty(size)
    objects, kept, size = 0, 0, 0
    for i in range(truth.codes.shape[0]):
        role = truth_roles[i]
        if role == _OTHER:
            continue
        objects += role == _COUNTS
        for k in range(pairs.starts[i], pairs.starts[i + 1]):
            j = pairs.detections[k]
            if roles[j] != _OTHER and pairs.overlaps[k, metric] > min_overlap:
                partners[size], overlaps[size] = j, pairs.overlaps[k, metric]
                differences[size] = truth.numbers[i, ALPHA] - pred.numbers[j, ALPHA]
                size += 1
        if size > starts[kept]:
            own_roles[kept] = role
            kept += 1
            starts[kept] = size
    return _Candidates(own_roles[:kept], starts[: kept + 1], partners, overlaps, differences), objects


@_jit()
def precision_curve(
    rule: Rule, truth: FrameObjects, pred: FrameObjects, order: npt.NDArray[Any], pairs: Pairs
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], int]:
    """Returns `curve_of_roles` of a class at a difficulty.

    Args:
        rule: what counts.
        truth, pred: labels and results of all frames.
        order: (M,) detections by falling score.
        pairs: of all frames, from `find_pairs`.
    """
    truth_roles = np.empty(truth.codes.shape[0], np.int8)
    for i in range(truth.codes.shape[0]):
        truth_roles[i] = object_role(truth.codes[i], truth.numbers[i], rule)
    roles = _detection_roles(pred, rule.class_code, rule.min_height_px)
    return curve_of_roles(truth, pred, (truth_roles, roles), order, pairs, (rule.metric, rule.min_overlap))


@_jit()
def curve_of_roles(
    truth: FrameObjects,
    pred: FrameObjects,
    both_roles: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    order: npt.NDArray[Any],
    pairs: Pairs,
    metric_and_overlap: tuple[int, float],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], int]:
    """Precision and similarity of orientation (41,) at the recalls 0, 1/40 .. 1, each the best from there on.

    Args:
        truth, pred: labels and results of all frames.
        both_roles: (N,) of the objects and (M,) of the detections, int8: 0 counts, 1 is ignored, -1 is not there.
        order: (M,) detections by falling score.
        pairs: of all frames, from `find_pairs`.
        metric_and_overlap: as of `Rule`.

    Returns:
        Both curves (a recall without detections, or with none that counts, is 0), and the number of objects.
    """
    roles, (metric, min_overlap) = both_roles[1], metric_and_overlap
    candidates, objects = _candidates(truth, pred, both_roles, pairs, metric, min_overlap)
    score, scores_descending, count = pred.numbers[:, SCORE].copy(), np.empty(roles.shape[0]), 0
    detections = _Detections(roles, score, pairs.dontcare_overlap[:, metric] > min_overlap)
    hit = _true_positives(candidates, detections)
    for j in order:
        if hit[j]:
            scores_descending[count] = score[j]
            count += 1
    thresholds = np.empty(POINTS)
    points = _thresholds(scores_descending, count, objects, thresholds)

    precision, similarity = np.zeros(POINTS), np.zeros(POINTS)
    taken = np.zeros(roles.shape[0], np.int64)
    place, counted = 0, 0
    for t in range(points):
        while place < order.shape[0] and score[order[place]] >= thresholds[t]:
            counted += roles[order[place]] == _COUNTS and not detections.in_dontcare[order[place]]
            place += 1
        hits, matched, similarity_sum = _match(thresholds[t], t + 1, candidates, detections, taken)
        all_counted = hits + counted - matched
        if all_counted > 0:
            precision[t], similarity[t] = hits / all_counted, similarity_sum / all_counted
    for t in range(POINTS - 2, -1, -1):
        precision[t], similarity[t] = max(precision[t], precision[t + 1]), max(similarity[t], similarity[t + 1])
    return precision, similarity, objects
