"""Boxes as the numbers that BEVFormer regresses: (cx, cy, log w, log l, cz, log h, sin, cos, vx, vy).

The released model was trained on the boxes of mmdet3d 0.17, whose yaw is -yaw - pi/2 in today's convention, and whose
middle height cz is that of the box, not of its bottom. Codes keep that, so that its weights mean the same here.
"""

from __future__ import annotations

import torch
from torch import Tensor

CODE_SIZE = 10
# |log(size in metres)| is cut here, so that a wild prediction stays a finite box (0.02 to 55 m).
_MAX_LOG_SIZE = 4.0
_SMALLEST_SIZE_M = 0.01


def encode_boxes(boxes: Tensor) -> Tensor:
    """Codes (..., 10) of boxes (..., 9): x, y, z of the bottom, l, w, h, yaw, vx, vy; unknown velocities stay NaN.

    Sizes below 1 cm count as 1 cm.
    """
    length, width, height = boxes[..., 3:6].clamp(min=_SMALLEST_SIZE_M).unbind(-1)
    middle = boxes[..., 2] + boxes[..., 5] / 2
    yaw = boxes[..., 6]
    code = [boxes[..., 0], boxes[..., 1], width.log(), length.log(), middle, height.log(), -yaw.cos(), -yaw.sin()]
    return torch.cat([torch.stack(code, -1), boxes[..., 7:9]], -1)


def decode_boxes(codes: Tensor) -> Tensor:
    """Boxes (..., 9) of codes (..., 10); the way back of `encode_boxes`, with bounded sizes and yaw in [-pi, pi]."""
    x, y, log_width, log_length, middle, log_height, sine, cosine, vx, vy = codes.unbind(-1)
    width, length, height = (
        log.clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp() for log in (log_width, log_length, log_height)
    )
    yaw = torch.atan2(-cosine, -sine)
    return torch.stack([x, y, middle - height / 2, length, width, height, yaw, vx, vy], -1)
