"""Which predicted boxes find an annotated object, which are false, and which objects are missed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

MATCHES = ('true positive', 'false positive', 'false negative', 'ignored')
"""What a box may be; the position is its label in `match_boxes`."""
_FOUND, _FALSE, _MISSED, _IGNORED = range(len(MATCHES))


def match_boxes(
    predicted: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    ignored: npt.NDArray[Any],
    distance_m: float,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns boxes (K, 7) and their labels (K,) in MATCHES: predictions, missed objects, ignored objects.

    As detection metrics match them: by falling score each prediction takes the nearest object that is left and whose
    middle is closer than `distance_m`. One that gets none is ignored if an ignored object is that close, else false.

    Args:
        predicted: (M, 7 or more), bottom centre and size in metres, yaw.
        scores: (M,).
        truth: (N, 7 or more).
        ignored: (I, 7 or more) objects that are neither to be found nor background.
        distance_m: metres between the middles of the boxes.
    """
    labels, left = np.full(len(predicted), _FALSE), np.ones(len(truth), bool)
    to_truth, to_ignored = (_distances(predicted, other) for other in (truth, ignored))
    for row in np.argsort(-scores, kind='stable'):
        near = np.where(left, to_truth[row], np.inf)
        if (near < distance_m).any():
            left[near.argmin()], labels[row] = False, _FOUND
        elif (to_ignored[row] < distance_m).any():
            labels[row] = _IGNORED
    boxes = np.concatenate([part[:, :7] for part in (predicted, truth[left], ignored)])
    counts = [int(left.sum()), len(ignored)]
    return boxes, np.concatenate([labels, np.repeat([_MISSED, _IGNORED], counts)])


def _distances(boxes: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Distances (M, N) between the middles of boxes, metres."""
    middles, other_middles = (each[:, :3] + each[:, 5:6] / 2 * [0, 0, 1] for each in (boxes, others))
    distances: npt.NDArray[Any] = np.linalg.norm(middles[:, None] - other_middles[None], axis=2)
    return distances
