"""Which way the yaw of STCrowd turns, found from the points: it is not documented, and code of its authors disagrees.

Our own rule: in elongated boxes that stand askew, more points are inside if the box is turned the right way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.ops.inside_boxes import rows_in_boxes

WANTED_BOXES = 200
"""So many boxes are enough, our choice."""
_LEAST_BOXES = 20
_ELONGATION = 1.3
# A box along an axis, or across it, is the same for both signs.
_ASKEW = 0.5
# The points of the better sign are more by this share at least, or nothing is decided.
_MARGIN = 0.02


@dataclass
class YawVote:
    """Points inside the boxes so far, for a yaw as stored, a negated one, and one turned by 90 degrees."""

    boxes: int = 0
    as_stored: int = 0
    negated: int = 0
    turned: int = 0

    def add(self, points: npt.NDArray[Any], boxes: npt.NDArray[Any]) -> None:
        """Counts the points (N, >=3) in those of the boxes (M, 7), bottom's middle and stored yaw, that tell."""
        length, width = boxes[:, 3], boxes[:, 4]
        long_side, short_side = np.maximum(length, width), np.minimum(length, width)
        tells = (long_side > _ELONGATION * short_side) & (short_side > 0) & (abs(np.sin(2 * boxes[:, 6])) > _ASKEW)
        boxes = boxes[tells][: WANTED_BOXES - self.boxes]
        self.boxes += len(boxes)
        self.as_stored += _inside(points, boxes)
        negated, turned = boxes.copy(), boxes.copy()
        negated[:, 6] *= -1
        turned[:, 6] += np.pi / 2
        self.negated += _inside(points, negated)
        self.turned += _inside(points, turned)

    @property
    def enough(self) -> bool:
        """Whether further boxes are not needed."""
        return self.boxes >= WANTED_BOXES

    def decision(self) -> tuple[int, str]:
        """Returns the sign, and a line that says how it was found; 1 where the points do not tell."""
        counts = f'{self.as_stored} points as stored, {self.negated} with the other sign, in {self.boxes} boxes'
        best, other = max(self.as_stored, self.negated), min(self.as_stored, self.negated)
        if self.boxes < _LEAST_BOXES or best < (1 + _MARGIN) * other or not best:
            return 1, f'yaw sign +1 is assumed, the points do not tell ({counts}): give --yaw-sign +1 or -1 if you know'
        sign = 1 if self.as_stored == best else -1
        note = f'yaw sign {sign:+d}, found from the points ({counts})'
        if self.turned > best:
            note += f'; turned by 90 degrees the boxes hold {self.turned}: length and width may be exchanged'
        return sign, note


def _inside(points: npt.NDArray[Any], boxes: npt.NDArray[Any]) -> int:
    return sum(map(len, rows_in_boxes(points, boxes)))


def find_yaw_sign(frames: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> tuple[int, str]:
    """Returns the sign that makes a stored yaw one from x to y, and a line that says how it was found.

    Args:
        frames: points (N, >=3) and boxes (M, 7) with the bottom's middle and the stored yaw, until there are enough.
    """
    vote = YawVote()
    for points, boxes in frames:
        vote.add(points, boxes)
        if vote.enough:
            break
    return vote.decision()
