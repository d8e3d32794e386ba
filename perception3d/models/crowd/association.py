"""Which detection continues which track: an assignment within gates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from perception3d.checks import unknown_name

METHODS = ('hungarian', 'greedy')

# Far below the precision of a position. Detections come best first, so that of two at the same distance the better one
# is taken.
_RANK_M = 1e-9


def distances(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns the distances (N, M) in metres between positions (N, 2) and (M, 2)."""
    return np.linalg.norm(first[:, None] - second[None], axis=2)


def nearest_neighbour(positions: npt.NDArray[Any], labels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns the distance (N,) in metres from each position (N, 2) to the nearest other one of its class.

    Infinite where there is no other one.
    """
    apart = distances(positions, positions)
    apart[labels[:, None] != labels[None]] = np.inf
    np.fill_diagonal(apart, np.inf)
    return apart.min(axis=1, initial=np.inf)


def require_method(method: str) -> str:
    """Returns `method`; InputError if it is not one of METHODS."""
    if method not in METHODS:
        raise unknown_name('matching of a tracker', method, METHODS)
    return method


def assign(
    apart: npt.NDArray[Any],
    gates: npt.NDArray[Any],
    allowed: npt.NDArray[Any],
    unmatched: npt.NDArray[Any],
    method: str = 'hungarian',
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the pairs (rows, columns) of tracks and detections that belong together, by rising row.

    'hungarian' minimises the sum of the distances of all pairs and of `unmatched` of each track without a pair. A pair
    is worth more than none only within that cost, so that no track is pushed off its own detection to give a far one
    to another track. 'greedy' takes the nearest pair, then the nearest of those left, and so on.

    Args:
        apart: (N, M) distances in metres; the columns are the detections, best first: of equal distances the lower
            column is taken.
        gates: (N,) a pair must be nearer than this, metres.
        allowed: (N, M) whether a pair is possible at all, such as of one class.
        unmatched: (N,) the cost of a track without a detection, metres, at least its gate.
        method: one of METHODS.
    """
    possible = allowed & (apart < gates[:, None])
    costs = apart + _RANK_M * np.arange(apart.shape[1])
    if method == 'greedy':
        return _greedy(costs, possible)
    rows, columns = linear_sum_assignment(np.where(possible, costs - unmatched[:, None], 0.0))
    kept = possible[rows, columns]
    return rows[kept].astype(np.int64), columns[kept].astype(np.int64)


def _greedy(costs: npt.NDArray[Any], possible: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    rows, columns = np.nonzero(possible)
    order = np.argsort(costs[rows, columns], kind='stable')
    column_of: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist()):
        if row not in column_of and column not in taken:
            column_of[row] = column
            taken.add(column)
    pairs = np.array(sorted(column_of.items()), np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
