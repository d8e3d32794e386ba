"""Losses of lane networks against values by hand and against torch."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.lane.losses import (
    LaneCrossEntropyLoss,
    LaneExistenceLoss,
    LaneSoftIoULoss,
    lane_cross_entropy,
    lane_soft_iou,
)
from perception3d.models.lane.outputs import LaneOutputs, LaneTargets


def masks():
    mask = torch.randint(0, 5, (2, 6, 8), generator=torch.Generator().manual_seed(1))
    mask[0, 0] = 255
    return mask


def test_cross_entropy_is_that_of_torch_with_the_weight_of_the_background():
    logits, mask = torch.randn(2, 5, 6, 8, generator=torch.Generator().manual_seed(0)), masks()
    expected = F.cross_entropy(logits, mask, torch.tensor([0.4, 1, 1, 1, 1]), ignore_index=255)
    torch.testing.assert_close(lane_cross_entropy(logits, mask), expected)
    torch.testing.assert_close(lane_cross_entropy(logits, mask, 1.0), F.cross_entropy(logits, mask, ignore_index=255))


def test_soft_iou_counts_lane_pixels_by_hand():
    # Probabilities of background and two lanes for four pixels; the last one is ignored.
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05], [0.0001, 0.9, 0.0999]])
    logits = probabilities.log().T.reshape(1, 3, 1, 4)
    mask = torch.tensor([[[1, 1, 0, 255]]])
    predicted, overlap = 0.5 + 0.9 + 0.1, 0.3 + 0.8
    assert lane_soft_iou(logits, mask).item() == pytest.approx(1 - overlap / (predicted + 2 - overlap), abs=1e-6)
    # Certain and right: no loss. Certain and of the other lane: all of it.
    sure = F.one_hot(torch.tensor([[[1, 2]]]), 3).permute(0, 3, 1, 2) * 100.0
    assert lane_soft_iou(sure, torch.tensor([[[1, 2]]])).item() == pytest.approx(0, abs=1e-6)
    assert lane_soft_iou(sure, torch.tensor([[[2, 1]]])).item() == pytest.approx(1, abs=1e-6)


def test_existence_is_cross_entropy_of_logits():
    logits, exist = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    loss = LaneExistenceLoss()(LaneOutputs((), exist_logits=logits), LaneTargets(torch.zeros(1), torch.zeros(1), exist))
    by_hand = -(math.log(1 / (1 + math.exp(-2))) + math.log(1 - 1 / (1 + math.exp(1)))) / 2
    assert loss.item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize('value', [0, 255])
def test_images_without_lanes_or_without_any_label_give_a_finite_gradient(value):
    logits = torch.randn(1, 5, 4, 4, requires_grad=True)
    mask = torch.full((1, 4, 4), value)
    loss = lane_cross_entropy(logits, mask) + lane_soft_iou(logits, mask)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert (loss > 0) == (value == 0)


def test_the_classes_of_the_losses_read_their_output():
    logits, mask = torch.randn(2, 5, 6, 8), masks()
    outputs, targets = LaneOutputs((), seg_logits=logits), LaneTargets(mask, mask)
    torch.testing.assert_close(LaneCrossEntropyLoss(0.7)(outputs, targets), lane_cross_entropy(logits, mask, 0.7))
    torch.testing.assert_close(LaneSoftIoULoss()(outputs, targets), lane_soft_iou(logits, mask))
    with pytest.raises(InputError, match='LaneSoftIoULoss reads seg_logits, but the network of this config gives none'):
        LaneSoftIoULoss()(LaneOutputs(()), targets)
    with pytest.raises(InputError, match='background_weight is 0'):
        LaneCrossEntropyLoss(0)
