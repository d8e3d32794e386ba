"""CULane's counts against a slow version of its rules: whole images, a dense system of equations, plain recursion."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from official_culane import SIZE_WH, THRESHOLDS, lane, odd_line, text_of
from scipy.optimize import linear_sum_assignment

from perception3d.checks import InputError
from perception3d.evaluation.lane_drawing import draw_lane, lane_ious
from perception3d.evaluation.lane_f1 import LaneCounts, LaneRule, count_lanes, lane_report, lane_scores
from perception3d.evaluation.lane_matching import match_lanes
from perception3d.formats.culane.files import parse_lines

RULE = LaneRule(SIZE_WH, THRESHOLDS)


def slow_spline(points: np.ndarray) -> np.ndarray:
    """A natural cubic spline through the points by a dense system for all second derivatives, ends included."""
    points = points.astype(np.float32).astype(float)
    if len(points) == 2:
        return points
    steps = (points[1:] - points[:-1]).astype(float)
    h = [math.hypot(*step) for step in steps]
    last = len(points) - 1
    if 0 in h:
        return np.concatenate([np.full((50 * last, 2), np.nan), points[-1:]])
    system, right = np.eye(last + 1), np.zeros((last + 1, 2))
    for k in range(1, last):
        system[k, k - 1 : k + 2] = h[k - 1] / 6, (h[k - 1] + h[k]) / 3, h[k] / 6
        right[k] = steps[k] / h[k] - steps[k - 1] / h[k - 1]
    bends = np.linalg.solve(system, right)
    samples = []
    for k in range(last):
        for t in h[k] * np.arange(50) / 50:
            u = h[k] - t
            curve = (bends[k] * u**3 + bends[k + 1] * t**3) / (6 * h[k])
            ends = [points[i] / h[k] - bends[i] * h[k] / 6 for i in (k, k + 1)]
            samples.append(curve + ends[0] * u + ends[1] * t)
    return np.array([*samples, points[-1]]).astype(np.float32)


def slow_mask(points: np.ndarray) -> np.ndarray:
    mask = np.zeros(SIZE_WH[::-1], np.uint8)
    pixels = [
        [round(float(v)) if math.isfinite(v) and abs(v) < 2**31 else -(2**31) for v in p] for p in slow_spline(points)
    ]
    for one, other in zip(pixels, pixels[1:]):
        cv2.line(mask, one, other, 1, 30)
    return mask


def slow_ious(gt: list[np.ndarray], pred: list[np.ndarray]) -> np.ndarray:
    masks = [[slow_mask(each) if len(each) > 1 else None for each in side] for side in (gt, pred)]
    ious = np.zeros((len(gt), len(pred)))
    for i, a in enumerate(masks[0]):
        for j, b in enumerate(masks[1]):
            if a is not None and b is not None:
                union = int((a | b).sum())
                ious[i, j] = int((a & b).sum()) / union if union else math.nan
    return ious


def slow_matches(weights: np.ndarray) -> list[tuple[int, int]]:
    """Kuhn-Munkres by recursion, with the tolerance, from the shorter side; pairs (row, column)."""
    if weights.shape[0] > weights.shape[1]:
        return [(row, column) for column, row in slow_matches(weights.T)]
    rows, columns = (range(n) for n in weights.shape)
    left = [max([-1e5] + [w for w in weights[row] if not math.isnan(w)]) for row in rows]
    right, partner = [0.0 for _ in columns], {}

    def visit(row: int, seen: set) -> bool:
        seen.add(('row', row))
        for column in columns:
            tight = abs(left[row] + right[column] - weights[row, column]) < 1e-2
            if tight and ('column', column) not in seen:
                seen.add(('column', column))
                if column not in partner or visit(partner[column], seen):
                    partner[column] = row
                    return True
        return False

    for row in rows:
        while not visit(row, seen := set()):
            open_edges = [
                left[i] + right[j] - weights[i, j]
                for i in rows if ('row', i) in seen for j in columns if ('column', j) not in seen
            ]  # fmt: skip
            open_edges = [slack for slack in open_edges if not math.isnan(slack)]
            if not open_edges:
                return [(r, c) for c, r in partner.items()]
            for side, labels, sign in (('row', left, -1), ('column', right, 1)):
                for k in range(len(labels)):
                    labels[k] += sign * min(open_edges) * ((side, k) in seen)
    return [(r, c) for c, r in partner.items()]


def lines_of(number: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Annotated and predicted lanes of an image, with the cases that surprise."""
    rng = np.random.default_rng(number)
    lanes = [lane(rng) for _ in range(rng.integers(0, 4))]
    moved = [each + rng.normal(0, 6, (1, 2)) * [1, 0] for each in lanes[: rng.integers(0, 5)]]
    texts = [[text_of(each) for each in side] + [odd_line(rng, 1e6) for _ in range(2)] for side in (lanes, moved)]
    if number % 3 == 0:
        # Outside of the image on both sides.
        texts[0].insert(1, text_of(lane(rng) + 4000))
        texts[1].insert(0, text_of(lane(rng) - 4000))
    gt, pred = (parse_lines('\n'.join(side)) for side in texts)
    return gt, pred


def test_bands_and_counts_are_those_of_whole_images():
    seen_nan, found = 0, 0
    for number in range(7):
        gt, pred = lines_of(number)
        bands = [[draw_lane(each, SIZE_WH, 30) for each in side] for side in (gt, pred)]
        slow = slow_ious(gt, pred)
        np.testing.assert_array_equal(lane_ious(*bands), slow)
        seen_nan += int(np.isnan(slow).sum())
        counts = count_lanes(gt, pred, RULE)
        for k, threshold in enumerate(THRESHOLDS):
            true = sum(bool(slow[pair] > threshold) for pair in slow_matches(slow))
            assert counts.at(k) == (true, len(pred) - true, len(gt) - true)
            found += true
    assert seen_nan > 2 and found > 20


def test_the_assignment_has_the_tolerance_of_the_official_tool():
    rng = np.random.default_rng(0)
    below_the_best = 0
    for number in range(900):
        weights = np.round(rng.uniform(0, 1, (rng.integers(1, 6), rng.integers(1, 6))), rng.integers(2, 5))
        weights += rng.choice([0, 0.006], weights.shape)
        if number % 3 == 0:
            weights[rng.random(weights.shape) < 0.3] = np.nan
        found = [(row, column) for row, column in enumerate(match_lanes(weights)) if column >= 0]
        assert found == sorted(slow_matches(weights))
        if number % 3:
            best = weights[linear_sum_assignment(weights, maximize=True)].sum()
            below_the_best += best - sum(weights[pair] for pair in found) > 1e-9
    assert below_the_best > 10


def test_blank_lines_are_lanes():
    assert sorted(match_lanes(np.zeros((80, 70)))) == [-1] * 10 + list(range(70))
    assert count_lanes([np.zeros((0, 2))] * 3, [np.zeros((0, 2))], RULE) == LaneCounts(3, 1, (0, 0, 0))


def score(gt: list, pred: list) -> dict:
    return lane_scores(count_lanes(gt, pred, LaneRule(SIZE_WH)), 0)


def test_rules_that_surprise():
    straight = np.column_stack([np.full(18, 400.0), np.arange(589, 229, -20)])
    twice = np.insert(straight, 5, straight[5], axis=0)
    right, outside = straight + [700, 0], straight + [9000, 0]
    assert score([straight], [straight])['f1'] == 1
    # Two equal points in a row, and a single point: the lane is lost, on both sides.
    assert score([straight], [twice]) == {'tp': 0, 'fp': 1, 'fn': 1, 'precision': 0, 'recall': 0, 'f1': None}
    assert score([straight], [straight, straight[:1]])['fp'] == 1
    # Two lanes outside the image have IoU 0 / 0, and with it a match of others is lost: a row whose only edge is NaN
    # ends the assignment, and a column takes the place of one. The counts are those of the official tool.
    assert score([straight, right], [straight, right])['tp'] == 2
    assert score([outside, right], [outside, right])['tp'] == score([right, outside], [right, outside])['tp'] == 0
    assert score([right, outside, straight], [outside, right, straight])['tp'] == 1
    assert score([straight, right], [outside, straight, right])['tp'] == 2
    # An IoU equal to the threshold is not above it.
    iou = float(lane_ious(*[[draw_lane(each, SIZE_WH, 30)] for each in (straight, straight + [5, 0])])[0, 0])
    rule = LaneRule(SIZE_WH, (np.nextafter(iou, 0), iou))
    assert count_lanes([straight], [straight + [5, 0]], rule).found == (1, 0)


def test_precision_recall_and_f1_where_lanes_are_missing():
    scores = {n: lane_scores(LaneCounts(*n, (0,)), 0) for n in ((0, 0), (0, 3), (3, 0), (3, 3))}
    assert [tuple(s[key] for key in ('precision', 'recall', 'f1')) for s in scores.values()] == [
        (-1, -1, -1), (0, -1, 0), (-1, 0, 0), (0, 0, None),
    ]  # fmt: skip
    rule = LaneRule(SIZE_WH, (0.3, 0.5))
    counts = [LaneCounts(4, 4, (4, 2)), LaneCounts(0, 5, (0, 0))]
    report, lines = lane_report(counts, rule, {'normal': counts[:1], 'cross': counts[1:]})
    # Pooled: the false positives of crossroads count in the total.
    assert report['0.5'] == {'tp': 2, 'fp': 7, 'fn': 2, 'precision': 2 / 9, 'recall': 0.5, 'f1': pytest.approx(4 / 13)}
    assert report['categories']['normal']['tp'] == 2 and report['categories_by_iou']['0.3']['normal']['tp'] == 4
    assert report['categories']['cross']['fp'] == 5 and any('30.77' in line for line in lines)


@pytest.mark.parametrize(
    'text, lanes',
    [
        ('', []),
        ('1 2 3 4\n\n', [[1, 2, 3, 4], []]),
        ('1 2 3 4 5 \r\n7 8', [[1, 2, 3, 4], [7, 8]]),
        ('1 2 nan 4\ninf 1\nx 1 2', [[1, 2], [], []]),
        ('1e2 .5 +3. -4e-1', [[100, 0.5, 3, -0.4]]),
        # A stream begins a new number where the last one cannot go on.
        ('1.5.3 4-2', [[1.5, 0.3, 4, -2]]),
        ('1 2 13e 4 5', [[1, 2]]),
        ('1 2 1e400 4', [[1, 2]]),
        ('1_0 2\n1,5 2\n\xa01 2\n1 2 3 0x4', [[], [], [], [1, 2, 3, 0]]),
    ],
)
def test_lines_are_read_as_by_a_stream_of_cpp(text: str, lanes: list):
    assert [points.ravel().tolist() for points in parse_lines(text)] == lanes


def test_a_rule_that_cannot_be_is_refused():
    for values in (((0, 590),), (SIZE_WH, ()), (SIZE_WH, (1.5,)), (SIZE_WH, (0.5,), 0)):
        with pytest.raises(InputError, match='got|give'):
            LaneRule(*values)
