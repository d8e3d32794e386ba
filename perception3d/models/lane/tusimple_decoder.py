"""Lanes from class maps by connected components: the rule by which the released ENet writes TuSimple results."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from perception3d.models.lane.decoding import at_stored_pixels, existing, stored_size
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.registry import TASK_UTILS
from perception3d.structures.lanes import Lanes

_ABSENT = -2


@TASK_UTILS.register_module()
class TuSimpleDecoder:
    """Sets `pred_lanes` of a sample, a point in each of TuSimple's rows that a lane reaches, by `pred_json.py`.

    The variant is that of the released ENet. For each lane that exists: the mean of 5 x 5 pixels of its probability in
    8 bits; the connected components above 40, of which the largest, and a second one above 800 pixels of contour area,
    are lanes of their own; these at the size of the stored image (linear); in each row the column of the maximum, kept
    above 0.2. Then: gaps inside of a lane are filled linearly; lanes up to 20 px long, from end to end, are left out;
    two lanes, one above the other, are joined where their slopes (5 samples at the ends that face each other) differ by
    less than 0.2 and the upper one, extended, comes within 50 px of the lower one; lanes up to 70 px long are left out;
    where one lane alone reaches the highest row, it loses that point; of more than six lanes the longest stay (which
    ones is not stated). Areas are for a map of 640 x 368 pixels and lengths for images of 1280 x 720; both are scaled
    to other sizes.

    pytorch-auto-drive's variant has no components: `RowDecoder(at_h_samples=True)`.

    Args:
        exist_threshold: a lane is used above it.
        max_lanes: of an image.
    """

    def __init__(self, exist_threshold: float = 0.5, max_lanes: int = 6) -> None:
        self.exist_threshold, self.max_lanes = exist_threshold, max_lanes

    def decode(self, outputs: LaneOutputs, sample: Any) -> None:
        """Sets the lanes of one image; points are in pixels of the stored image, bottom first, scores are existence.

        Rows are `h_samples` of the sample, or 160, 170, .. 710 of 720.
        """
        logits = outputs.required('seg_logits', type(self).__name__)[0].float()
        maps = logits.softmax(0)[1:].cpu().numpy()
        scores = existing(outputs, self.exist_threshold)
        height, width = stored_size(sample.metainfo)
        scale = height / 720
        rows = np.asarray(sample.metainfo.get('h_samples', np.arange(160, 720, 10) * scale), np.float64)
        found = []
        for slot in np.flatnonzero(scores):
            for part in components(maps[slot]):
                values = at_stored_pixels(part, sample.metainfo, rows, np.arange(width))
                x = np.where(values.max(1) > 0.2 * 255, values.argmax(1), _ABSENT)
                found.append((int(slot), filled(x)))
        found = joined([lane for lane in found if length(lane[1], rows) > 20 * scale], rows, scale)
        found = [lane for lane in found if length(lane[1], rows) > 70 * scale]
        cut_highest([x for _, x in found])
        # A lane may have lost its second last point.
        found = [lane for lane in found if (lane[1] >= 0).sum() >= 2]
        longest = sorted(found, key=lambda lane: -length(lane[1], rows))[: self.max_lanes]
        kept = [lane for lane in found if any(lane is other for other in longest)]
        labels = np.array([slot for slot, _ in kept], np.int64)
        sample.pred_lanes = Lanes(tuple(_points(x, rows) for _, x in kept), labels, scores[labels])


def components(probability: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Returns the maps (H, W) of 0..255 of one or two components of a map of probabilities, the larger one first."""
    mean = cv2.blur(probability, (5, 5), borderType=cv2.BORDER_CONSTANT)
    values = np.rint(mean * 255).astype(np.uint8)
    contours, _ = cv2.findContours((values > 40).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = sorted(contours, key=cv2.contourArea, reverse=True)[:2]
    least = 800 * values.size / (640 * 368)
    parts = []
    for contour in largest[:1] + [other for other in largest[1:] if cv2.contourArea(other) > least]:
        part = cv2.drawContours(np.zeros_like(values), [contour], 0, (1,), cv2.FILLED)
        parts.append((values * part).astype(np.float32))
    return parts


def filled(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the columns (R,) of a lane with gaps between its ends filled linearly, rounded; -2 stands for none."""
    x = x.copy()
    known = np.flatnonzero(x >= 0)
    if len(known) > 1:
        inner = np.arange(known[0], known[-1] + 1)
        x[inner] = np.rint(np.interp(inner, known, x[known])).astype(x.dtype)
    return x


def length(x: npt.NDArray[Any], rows: npt.NDArray[Any]) -> float:
    """Returns the distance in pixels between the two ends of a lane, 0 for fewer than two points."""
    known = np.flatnonzero(x >= 0)
    if len(known) < 2:
        return 0.0
    first, last = known[0], known[-1]
    return float(np.hypot(x[last] - x[first], rows[last] - rows[first]))


def joined(
    lanes: list[tuple[int, npt.NDArray[Any]]], rows: npt.NDArray[Any], scale: float
) -> list[tuple[int, npt.NDArray[Any]]]:
    """Returns lanes (slot, columns) with those joined that continue each other; a joined one has the lower one's slot.

    Args:
        lanes: each with a point or more.
        rows: (R,), top first.
        scale: height of the stored image over 720.
    """
    lanes = list(lanes)
    while True:
        pairs = [
            (upper, lower)
            for upper in range(len(lanes))
            for lower in range(len(lanes))
            if upper != lower and _continues(lanes[upper][1], lanes[lower][1], rows, scale)
        ]
        if not pairs:
            return lanes
        upper, lower = pairs[0]
        slot, x = lanes[lower]
        one = (slot, filled(np.maximum(lanes[upper][1], x)))
        lanes = [lane for k, lane in enumerate(lanes) if k not in pairs[0]] + [one]


def _continues(upper: npt.NDArray[Any], lower: npt.NDArray[Any], rows: npt.NDArray[Any], scale: float) -> bool:
    above, below = np.flatnonzero(upper >= 0)[-5:], np.flatnonzero(lower >= 0)[:5]
    if len(above) < 2 or len(below) < 2 or above[-1] >= below[0]:
        return False
    slopes = [(x[k[-1]] - x[k[0]]) / (rows[k[-1]] - rows[k[0]]) for x, k in ((upper, above), (lower, below))]
    reached = upper[above[-1]] + slopes[0] * (rows[below[0]] - rows[above[-1]])
    return bool(abs(slopes[0] - slopes[1]) < 0.2 and abs(reached - lower[below[0]]) < 50 * scale)


def cut_highest(lanes: list[npt.NDArray[Any]]) -> None:
    """Takes, in place, the first point from the lane that alone reaches the highest row of all."""
    starts = [np.flatnonzero(x >= 0)[0] for x in lanes]
    if starts and starts.count(min(starts)) == 1:
        highest = int(np.argmin(starts))
        lanes[highest][starts[highest]] = _ABSENT


def _points(x: npt.NDArray[Any], rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    known = np.flatnonzero(x >= 0)[::-1]
    return np.stack([x[known].astype(np.float64), rows[known]], 1)
