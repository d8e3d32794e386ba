"""What the decoders share: where pixels of the map lie in the stored image, and which lanes exist."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from perception3d.checks import InputError
from perception3d.models.lane.outputs import LaneOutputs


def stored_scale(meta: dict[str, Any]) -> tuple[float, float, float, float]:
    """Returns (sx, tx, sy, ty) of an image that was cropped and resized: x of the input = sx * x stored + tx.

    Raises:
        InputError: the sample has no `img_from_stored`, or it was turned.
    """
    if 'img_from_stored' not in meta:
        raise InputError(
            "a sample has no 'img_from_stored', by which lanes get back to the stored image: let PackLaneInputs pack it"
        )
    matrix = np.asarray(meta['img_from_stored'], np.float64).reshape(-1, 4, 4)[0]
    if abs(matrix[0, 1]) + abs(matrix[1, 0]) > 1e-9:
        raise InputError('img_from_stored turns the image: predict without AugmentLaneImage')
    return matrix[0, 0], matrix[0, 2], matrix[1, 1], matrix[1, 2]


def stored_points(points: npt.NDArray[Any], scale: tuple[float, float, float, float]) -> npt.NDArray[Any]:
    """Returns points (M, 2) of the input, whole numbers at the middle of pixels, in the stored image.

    Args:
        points: x and y.
        scale: of `stored_scale`.
    """
    sx, tx, sy, ty = scale
    stored: npt.NDArray[Any] = (points + 0.5 - [tx, ty]) / [sx, sy] - 0.5
    return stored


def existing(outputs: LaneOutputs, threshold: float) -> npt.NDArray[Any]:
    """Returns the probability (L,) of each lane of one image, 0 where it is not above `threshold`.

    Without an existence branch all lanes have 1.
    """
    if outputs.exist_logits is None:
        assert outputs.seg_logits is not None
        return np.ones(outputs.seg_logits.shape[1] - 1)
    scores: npt.NDArray[Any] = torch.sigmoid(outputs.exist_logits[0].float()).cpu().numpy().astype(np.float64)
    return np.where(scores > threshold, scores, 0.0)


def stored_size(meta: dict[str, Any]) -> tuple[int, int]:
    """Returns height and width of the stored image."""
    height, width = np.asarray(meta['stored_hw']).reshape(-1, 2)[0]
    return int(height), int(width)


def at_stored_pixels(
    values: npt.NDArray[Any], meta: dict[str, Any], rows: npt.NDArray[Any], columns: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Returns the values (R, C) of a map (H, W) of the input at pixels of the stored image, interpolated linearly.

    Pixels of the stored image that the input does not show are 0.

    Args:
        values: (H, W) float32.
        meta: of the sample.
        rows, columns: (R,) and (C,) of the stored image.
    """
    sx, tx, sy, ty = stored_scale(meta)
    # Matrices count from the corner of the image, pixels from the middle of the first one.
    u, v = sx * (columns + 0.5) + tx - 0.5, sy * (rows + 0.5) + ty - 0.5
    near = cv2.remap(
        np.ascontiguousarray(values, np.float32),
        np.tile(u.astype(np.float32), (len(v), 1)),
        np.tile(v.astype(np.float32)[:, None], (1, len(u))),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    height, width = values.shape
    inside = ((v > -0.5) & (v < height - 0.5))[:, None] & ((u > -0.5) & (u < width - 0.5))
    shown: npt.NDArray[Any] = near * inside
    return shown
