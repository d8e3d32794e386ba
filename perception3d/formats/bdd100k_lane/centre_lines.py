"""One line for each marking: the two borders that BDD100K annotates, paired and averaged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from perception3d.formats.bdd100k_lane.annotations import Marking, Points

GAP_PX = 40.0
"""Borders of a marking are no farther apart on average, in 1280x720; those of a double line twice as far."""
_SAMPLES = 32
_LARGEST_TURN = np.cos(np.deg2rad(20))


def centre_lines(markings: Sequence[Marking]) -> list[Points]:
    """Returns the lines (M, 2) of an image: the mean of the two borders of a marking, and other lines as they are.

    The paper "calculates the center lines" of the two annotated lines, and its author averages "the coordinates of each
    point in two neighbouring lines" (issues 127 and 310 of the release); which lines belong together neither the
    annotations nor the release say. The pairing is therefore OUR formulation. Two lines are the borders of one marking
    if they have the same category, direction and style, their mean distance is `GAP_PX` or less (of double lines twice
    that) and not more than the shorter one's length, they are parallel to 20 degrees, and lie side by side: along the
    line, their middles are apart by half of the longer one's length at most. Pairs are taken from the closest on, and a
    line belongs to one. Many markings are annotated by a single line in the middle: these stay.

    The mean is that of the points at equal shares of the length of both, at least as many as the borders have.

    Args:
        markings: of one image.
    """
    samples = [resample(marking.points, _SAMPLES) for marking in markings]
    gaps = {}
    for one, other in itertools.combinations(range(len(markings)), 2):
        gap = _gap(markings[one], markings[other], samples[one], samples[other])
        if gap is not None:
            gaps[one, other] = gap
    partner: dict[int, int] = {}
    for one, other in sorted(gaps, key=lambda pair: gaps[pair]):
        # Sorted by distance: a line that is taken already has a nearer partner.
        if one not in partner and other not in partner:
            partner[one], partner[other] = other, one
    lines = []
    for k, marking in enumerate(markings):
        if k not in partner:
            lines.append(marking.points)
        elif k < partner[k]:
            lines.append(_mean(marking.points, markings[partner[k]].points))
    return lines


def resample(points: Points, count: int) -> Points:
    """Returns points (count, 2) at equal shares of the length of a polyline (M, 2), M 1 or more."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    lengths = np.concatenate([[0.0], np.cumsum(steps)])
    shares = np.linspace(0, lengths[-1], count)
    return np.column_stack([np.interp(shares, lengths, points[:, axis]) for axis in (0, 1)])


def _gap(one: Marking, other: Marking, points: Points, others: Points) -> float | None:
    """Returns the mean distance of two lines in pixels; None where they cannot be the borders of one marking."""
    if (one.category, one.direction, one.style) != (other.category, other.direction, other.style):
        return None
    others = _same_way(points, others)
    ways = [line[-1] - line[0] for line in (points, others)]
    lengths = [float(np.hypot(*way)) for way in ways]
    if min(lengths) == 0:
        return None
    along = ways[0] / lengths[0] + ways[1] / lengths[1]
    along /= max(float(np.hypot(*along)), 1e-9)
    shift = abs(float((points.mean(0) - others.mean(0)) @ along))
    parallel = float(ways[0] @ ways[1]) / (lengths[0] * lengths[1]) >= _LARGEST_TURN
    distances = np.hypot(*(points[:, None] - others[None]).transpose(2, 0, 1))
    gap = float(max(distances.min(0).mean(), distances.min(1).mean()))
    limit = GAP_PX * (2 if one.category.startswith('double') else 1)
    side_by_side = shift <= max(lengths) / 2
    return gap if parallel and side_by_side and gap <= min(limit, *lengths) else None


def _same_way(points: Points, others: Points) -> Points:
    """Returns the second line, turned round where its ends are nearer to the first one's that way."""
    straight = np.hypot(*(points[[0, -1]] - others[[0, -1]]).T).sum()
    turned = np.hypot(*(points[[0, -1]] - others[[-1, 0]]).T).sum()
    return others[::-1] if turned < straight else others


def _mean(points: Points, others: Points) -> Points:
    others = _same_way(points, others)
    count = max(len(points), len(others))
    mean: Points = (resample(points, count) + resample(others, count)) / 2
    return mean
