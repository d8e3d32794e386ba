"""Lanes from the predictions of CLRNet's head: suppression by distance in rows, then polylines."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.lane.clr_targets import FIELDS, row_heights
from perception3d.models.lane.decoding import stored_points, stored_scale
from perception3d.registry import TASK_UTILS
from perception3d.structures.lanes import Lanes


def suppress_lanes(
    x_px: Tensor, starts: Tensor, counts: Tensor, scores: Tensor, distance_px: float, most: int | None = None
) -> Tensor:
    """Returns the indices (K,) of the lanes that stay, best score first; on any device, without compiled operators.

    The rule of the authors: a lane goes if a better one that stays is, in the mean over the rows that both cross,
    nearer than `distance_px`. Lanes without a common row never suppress each other. Equal scores: the first one stays.

    Args:
        x_px: (N, R) x in each row.
        starts, counts: (N,) int64, the first row of each lane and how many it crosses.
        scores: (N,).
        distance_px: as `x_px`.
        most: at most so many stay.
    """
    order = torch.sort(scores, descending=True, stable=True).indices
    x_px, first = x_px[order], starts[order]
    last = (first + counts[order] - 1).clamp(max=x_px.shape[1] - 1)
    row = torch.arange(x_px.shape[1], device=x_px.device)
    crossed = (row >= first[:, None]) & (row <= last[:, None])
    common = crossed[:, None] & crossed[None]
    number = common.sum(-1)
    distance = ((x_px[:, None] - x_px[None]).abs() * common).sum(-1)
    near = ((distance < distance_px * number) & (number > 0)).cpu()
    kept: list[int] = []
    gone = torch.zeros(len(order), dtype=torch.bool)
    for k in range(len(order)):
        if most is not None and len(kept) == most:
            break
        if not gone[k]:
            kept.append(k)
            gone |= near[k]
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


@TASK_UTILS.register_module()
class CLRDecoder:
    """Keeps likely lanes, suppresses those that lie on a better one, and makes polylines of the rest.

    The defaults are those of the release for CULane, as recalled [K]. mmdet passes a distance of 0.5 pixels, which
    suppresses next to nothing, and none at all on a CPU or without compiled operators. As in the release a lane is
    extended to the bottom of the image by the x of its lower rows; points outside of the image are left out. Labels of
    lanes are -1: they have no slot.

    Args:
        score: lanes of a lower probability are left out.
        distance_px: lanes nearer than this in the mean are one; pixels of the input, 50 of 800.
        most: lanes of an image; None: any number.

    Raises:
        InputError: a setting is invalid.
    """

    def __init__(self, score: float = 0.4, distance_px: float = 50.0, most: int | None = 4) -> None:
        if not 0 <= score <= 1 or distance_px < 0 or (most is not None and most < 1):
            raise InputError(
                f'score {score}, distance_px {distance_px} and most {most}: expected a score in 0..1, a distance of 0 '
                'or more and at least one lane'
            )
        self.score, self.distance_px, self.most = score, distance_px, most

    def decode(self, predictions: Tensor, input_hw: tuple[int, int], sample: Any) -> None:
        """Sets `pred_lanes` of one image; points are in pixels of the stored image, bottom first.

        Args:
            predictions: (P, 6 + R) of the head: two logits, start, angle and length as shares, x of rows as shares.
            input_hw: height and width of the input.
            sample: with `img_from_stored`.

        Raises:
            InputError: the sample lacks `img_from_stored`.
        """
        height, width = input_hw
        predictions = predictions.detach().float()
        scores = predictions[:, :2].softmax(1)[:, 1]
        likely = scores >= self.score
        predictions, scores = predictions[likely], scores[likely]
        strips = predictions.shape[1] - FIELDS - 1
        starts = (predictions[:, 2] * strips).round().clamp(0, strips).long()
        counts = (predictions[:, 5] * strips).round().long()
        kept = suppress_lanes(
            predictions[:, FIELDS:] * (width - 1), starts, counts, scores, self.distance_px, self.most
        )
        x, first, count, score = (
            value[kept].cpu().numpy() for value in (predictions[:, FIELDS:].double(), starts, counts, scores.double())
        )
        rows, scale = row_heights(height, strips + 1), stored_scale(sample.metainfo)
        lines, sure = [], []
        for k in range(len(x)):
            crossed = _rows_in_image(x[k], int(first[k]), int(count[k]))
            if len(crossed) > 1:
                points = np.stack([x[k][crossed] * (width - 1), rows[crossed]], 1)
                lines.append(stored_points(points, scale))
                sure.append(score[k])
        sample.pred_lanes = Lanes(tuple(lines), np.full(len(lines), -1, np.int64), np.array(sure, np.float64))


def _rows_in_image(x: npt.NDArray[Any], first: int, count: int) -> npt.NDArray[Any]:
    """Returns the rows of a lane in the image, from the bottom, with those that extend it downwards."""
    inside = (x >= 0) & (x <= 1)
    bottom = first
    while bottom and inside[bottom - 1]:
        bottom -= 1
    return bottom + np.flatnonzero(inside[bottom : max(first + count, bottom)])
