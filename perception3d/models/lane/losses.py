"""Losses of lane networks: of the classes of pixels, of the overlap with the lanes, of the existence of each lane.

Functions on tensors first, then the modules that configs name, `forward(outputs, targets)`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.lane.outputs import LaneOutputs, LaneTargets
from perception3d.registry import MODELS
from perception3d.structures.lanes import IGNORED


def lane_cross_entropy(logits: Tensor, mask: Tensor, background_weight: float = 0.4) -> Tensor:
    """Returns the mean cross-entropy of pixels, weighted by class and divided by the sum of the weights.

    Args:
        logits: (B, 1 + L, H, W).
        mask: (B, H, W) int64; pixels of `IGNORED` do not count. Without any other the loss is 0.
        background_weight: of class 0; lanes have 1.
    """
    weights = logits.new_ones(logits.shape[1], dtype=torch.float32)
    weights[0] = background_weight
    counted = mask != IGNORED
    total = F.cross_entropy(logits.float(), mask, weights, ignore_index=IGNORED, reduction='sum')
    # No selection of pixels: it would wait for the device.
    return total / (weights[torch.where(counted, mask, 0)] * counted).sum().clamp(min=1e-6)


def lane_soft_iou(logits: Tensor, mask: Tensor) -> Tensor:
    """Returns 1 - No / (Np + Ng - No) with probabilities in the place of predicted classes; 0 where no lane is.

    Np is the sum of the probabilities of all lane classes, Ng the number of lane pixels and No the sum of the
    probabilities of the class that each lane pixel has, over the batch without ignored pixels. The formula of ENet-SAD
    (arXiv 1908.00821) as secondary sources give it, with the overlap as the numerator.

    Args:
        logits: (B, 1 + L, H, W).
        mask: (B, H, W) int64.
    """
    probabilities = logits.float().softmax(1)
    counted = mask != IGNORED
    lane = counted & (mask > 0)
    predicted = ((1 - probabilities[:, 0]) * counted).sum()
    own = probabilities.gather(1, torch.where(lane, mask, 0)[:, None])[:, 0]
    overlap = (own * lane).sum()
    # With a lane pixel the union is 1 or more; without any the loss has no gradient.
    union = (predicted + lane.sum() - overlap).clamp(min=1e-6)
    return lane.any() * (1 - overlap / union)


@MODELS.register_module()
class LaneCrossEntropyLoss(nn.Module):
    """`lane_cross_entropy` of `seg_logits`.

    Args:
        background_weight: as of the function; ENet-SAD and SCNN have 0.4.
    """

    def __init__(self, background_weight: float = 0.4) -> None:
        super().__init__()
        if not background_weight > 0:
            raise InputError(f'background_weight is {background_weight}: expected a number above 0')
        self.background_weight = background_weight

    def forward(self, outputs: LaneOutputs, targets: LaneTargets) -> Tensor:
        """Returns the loss."""
        return lane_cross_entropy(
            outputs.required('seg_logits', type(self).__name__), targets.mask, self.background_weight
        )


@MODELS.register_module()
class LaneSoftIoULoss(nn.Module):
    """`lane_soft_iou` of `seg_logits`."""

    def forward(self, outputs: LaneOutputs, targets: LaneTargets) -> Tensor:
        """Returns the loss."""
        return lane_soft_iou(outputs.required('seg_logits', type(self).__name__), targets.mask)


@MODELS.register_module()
class LaneExistenceLoss(nn.Module):
    """Mean binary cross-entropy of `exist_logits`; the sigmoid is in the loss, not in the network."""

    def forward(self, outputs: LaneOutputs, targets: LaneTargets) -> Tensor:
        """Returns the loss; InputError where the samples do not say which lanes exist."""
        logits = outputs.required('exist_logits', type(self).__name__)
        if targets.exist is None:
            raise InputError(
                'a sample of the batch has no gt_lane_exist.exist: let the pipeline pack it (PackLaneInputs), or leave '
                'the existence loss out'
            )
        return F.binary_cross_entropy_with_logits(logits.float(), targets.exist)
