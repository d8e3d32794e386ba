"""TuSimple's accuracy of one image, as the official `evaluate/lane.py` of tusimple-benchmark computes it; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

Rows = Sequence[Sequence[float]]
THRESHOLD_PX = 20.0
"""How near a point of an upright lane must be; of others the distance is along the row, so that it is larger."""
MATCHED = 0.85
"""Share of the rows in which a lane must be right to be found."""
SLOWEST_MS = 200
MORE_LANES = 2
"""An image counts as missed with more predicted than annotated lanes by more than that, or if it took longer."""
_SCORED_LANES = 4
_ABSENT = -100.0


@dataclass(frozen=True)
class ImageScores:
    """Scores of an image, each 0..1 in ordinary cases; `refused`: it counts as missed, see MORE_LANES."""

    accuracy: float
    fp: float
    fn: float
    refused: bool = False


def score_image(predicted: Rows, annotated: Rows, h_samples: Sequence[float], run_time_ms: float) -> ImageScores:
    """Returns the scores of an image.

    The rules that surprise: rows in which both lanes are absent count as right; each annotated lane takes the best
    predicted one, also if another lane took it, so that `fp` may be negative; of five annotated lanes or more the worst
    one is left out, and one miss is forgiven.

    Args:
        predicted, annotated: x of each lane in each row, negative where it is absent.
        h_samples: (M,) rows, pixels; each lane has M values, M is 1 or more.
        run_time_ms: of the prediction.
    """
    if run_time_ms > SLOWEST_MS or len(predicted) > len(annotated) + MORE_LANES:
        return ImageScores(0.0, 0.0, 1.0, refused=True)
    best = _best_shares(predicted, annotated, h_samples)
    missed = sum(share < MATCHED for share in best)
    extra = len(predicted) - (len(best) - missed)
    if len(annotated) > _SCORED_LANES and missed:
        missed -= 1
    total = sum_in_order(best)
    if len(annotated) > _SCORED_LANES:
        total -= min(best)
    scored = max(min(_SCORED_LANES, len(annotated)), 1)
    return ImageScores(total / scored, extra / len(predicted) if predicted else 0.0, missed / scored)


def sum_in_order(values: Iterable[float]) -> float:
    """Returns the sum, rounded after each step as in the official tool; `sum` of Python 3.12 rounds once."""
    total = 0.0
    for value in values:
        total += value
    return total


def _best_shares(predicted: Rows, annotated: Rows, h_samples: Sequence[float]) -> list[float]:
    """Returns of each annotated lane the largest share of rows in which a predicted one is right."""
    if not predicted or not annotated:
        return [0.0] * len(annotated)
    rows = np.asarray(h_samples, np.float64)
    found, truth = (np.asarray(lanes, np.float64) for lanes in (predicted, annotated))
    limits = np.array([_limit_px(lane, rows) for lane in truth])
    found, truth = (np.where(lanes >= 0, lanes, _ABSENT) for lanes in (found, truth))
    right = np.abs(found[None] - truth[:, None]) < limits[:, None, None]
    shares: list[float] = (right.sum(axis=2).max(axis=1) / len(rows)).tolist()
    return shares


def _limit_px(lane: npt.NDArray[np.float64], rows: npt.NDArray[np.float64]) -> float:
    """Returns the distance along a row that a point may be off: 20 px across the lane, whose direction a line gives."""
    present = lane >= 0
    if present.sum() < 2:
        return THRESHOLD_PX
    x, y = lane[present], rows[present]
    # By the routine that scikit-learn's LinearRegression calls, as the official tool does, to the last bit: a distance
    # of whole pixels may be equal to the limit.
    slope = linalg.lstsq((y - np.average(y))[:, None], x - np.average(x))[0][0]
    return float(THRESHOLD_PX / np.cos(np.arctan(slope)))
