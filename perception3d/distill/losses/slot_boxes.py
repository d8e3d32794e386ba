"""Decodes the boxes that a head predicts in single slots of its maps, and compares them with the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perception3d.checks import InputError
from perception3d.distill.losses.maps import positive
from perception3d.geometry.boxes import to_bev
from perception3d.geometry.iou import bev_iou


def slot_boxes(head: Any, codes: Tensor, index: Tensor) -> Tensor:
    """Decodes the slots `index` (B, K) of box codes (B, A * codes, H, W) to boxes (B, K, >=7) in metres, LiDAR frame.

    A slot is (a * H + row) * W + column, the order of the maps in memory. The yaw is defined up to 180 degrees, which
    does not change an overlap. A head of this package has a method `slot_boxes(codes, index)`; heads of mmdet3d with
    anchors on one map have an anchor generator and a box coder.

    Raises:
        InputError: the head cannot decode the box of a single slot.
    """
    if hasattr(head, 'slot_boxes'):
        return head.slot_boxes(codes, index)
    if not hasattr(head, 'prior_generator') or not hasattr(head, 'bbox_coder'):
        raise InputError(
            f'{type(head).__name__} cannot decode the box of a single slot: expected a method slot_boxes(codes, index) '
            "or mmdet3d's prior_generator and bbox_coder; set min_iou=None in the loss"
        )
    sizes = [tuple(codes.shape[2:])]
    anchors = head.prior_generator.grid_anchors(sizes, device=codes.device)[0].reshape(-1, head.box_code_size)
    area = codes.shape[2] * codes.shape[3]
    slots = len(anchors) // area
    # Anchors are ordered by cell, then by slot; the maps by slot, then by cell.
    place = index % area * slots + index // area
    rows = torch.arange(len(codes), device=codes.device)[:, None]
    slot_codes = codes.unflatten(1, (slots, -1)).flatten(3)[rows, index // area, :, index % area]
    return head.bbox_coder.decode(anchors[place].flatten(0, 1), slot_codes.flatten(0, 1)).unflatten(0, place.shape)


@dataclass(frozen=True)
class BoxAgreement:
    """When a predicted box agrees with the ground truth.

    A slot of class c is matched if the centre of a ground truth box of class c lies within `reach_m` of its own. A
    matched slot agrees if its rotated BEV IoU with any ground truth box of class c is `min_iou` or more. A slot that is
    not matched agrees: no annotation contradicts it.

    Attributes:
        min_iou: IoU in (0, 1].
        reach_m: distance of centres in metres.
        max_slots: only so many slots of a sample, those with the largest weights, are tested and kept.
    """

    min_iou: float = 0.3
    reach_m: float = 4.0
    max_slots: int = 200

    def __post_init__(self) -> None:
        if not 0 < self.min_iou <= 1 or self.max_slots < 1:
            raise InputError(
                f'invalid min_iou={self.min_iou}, max_slots={self.max_slots}: expected an IoU in (0, 1], and one slot '
                'or more'
            )
        positive('reach_m', self.reach_m)


@torch.no_grad()
def agreeing_slots(
    weights: Tensor, classes: Tensor, codes: Tensor, head: Any, samples: Sequence[Any], agreement: BoxAgreement
) -> Tensor:
    """Returns `weights` with 0 in slots where the head's box and the ground truth disagree.

    Args:
        weights: (B, A, H, W), 0 where the head is not confident.
        classes: (B, A, H, W) class of each slot, with the labels of the ground truth.
        codes: (B, A * codes, H, W) of the head.
        head: decodes them, see `slot_boxes`.
        samples: with `gt_instances_3d`, in the LiDAR frame of the head.
        agreement: when a box agrees.
    """
    largest, index = weights.flatten(1).topk(min(agreement.max_slots, weights[0].numel()), 1)
    boxes = to_bev(slot_boxes(head, codes, index)).nan_to_num()
    labels = classes.flatten(1).gather(1, index)
    agrees = torch.ones_like(largest)
    for b, sample in enumerate(samples):
        truth = sample.gt_instances_3d
        gt_boxes = to_bev(truth.bboxes_3d.tensor).to(boxes)
        if not len(gt_boxes):
            continue
        same = labels[b][:, None] == truth.labels_3d.to(labels.device)
        matched = (torch.cdist(boxes[b, :, :2], gt_boxes[:, :2]) <= agreement.reach_m) & same
        overlaps = (bev_iou(boxes[b], gt_boxes) * same).amax(1)
        agrees[b] = ((overlaps >= agreement.min_iou) | ~matched.any(1)).to(agrees.dtype)
    return torch.zeros_like(weights).flatten(1).scatter_(1, index, largest * agrees).view_as(weights)
