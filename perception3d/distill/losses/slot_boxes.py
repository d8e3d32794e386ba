"""The boxes that a head predicts in single slots of its maps, in metres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from perception3d.checks import InputError
from perception3d.geometry.boxes import to_bev
from perception3d.geometry.iou import bev_iou


def slot_boxes(head: Any, codes: Tensor, index: Tensor) -> Tensor:
    """Decodes the slots `index` (B, K) of box codes (B, A * codes, H, W) to boxes (B, K, >=7), lidar frame.

    A slot is (a * H + row) * W + column, as the maps lie in memory. The heading is told up to half a turn, which does
    not matter to an overlap. A head of this package has a method `slot_boxes(codes, index)`; heads of mmdet3d with
    anchors on one map have a generator of anchors and a coder.

    Raises:
        InputError: the head cannot tell the box of a single slot.
    """
    if hasattr(head, 'slot_boxes'):
        return head.slot_boxes(codes, index)
    if not hasattr(head, 'prior_generator') or not hasattr(head, 'bbox_coder'):
        raise InputError(
            f'{type(head).__name__} does not tell the box of a single slot: it needs a method slot_boxes(codes, '
            'index), or the anchors of mmdet3d; give the loss min_iou=None'
        )
    sizes = [tuple(codes.shape[2:])]
    anchors = head.prior_generator.grid_anchors(sizes, device=codes.device)[0].reshape(-1, head.box_code_size)
    area = codes.shape[2] * codes.shape[3]
    slots = len(anchors) // area
    # The anchors of a cell come one after the other, the maps of a slot do.
    place = index % area * slots + index // area
    rows = torch.arange(len(codes), device=codes.device)[:, None]
    own = codes.unflatten(1, (slots, -1)).flatten(3)[rows, index // area, :, index % area]
    return head.bbox_coder.decode(anchors[place].flatten(0, 1), own.flatten(0, 1)).unflatten(0, place.shape)


@torch.no_grad()
def agreeing_slots(
    sure: Tensor,
    classes: Tensor,
    codes: Tensor,
    head: Any,
    samples: Sequence[Any],
    min_iou: float,
    reach_m: float,
    max_slots: int,
) -> Tensor:
    """Returns `sure` (B, A, H, W) with 0 in slots where the head's box and the ground truth disagree.

    A slot of class c is matched if the centre of a ground truth box of class c lies within `reach_m` of its own. A
    matched slot stays if its rotated bird's-eye IoU with any ground truth box of class c is `min_iou` or more. A slot
    that is not matched stays: nothing contradicts it. Only the `max_slots` surest of a sample are looked at, and only
    they stay.

    Args:
        sure: weights, 0 where the head is not sure.
        classes: (B, A, H, W) class of each slot, as the ground truth counts them.
        codes: (B, A * codes, H, W) of the head.
        head: decodes them, see `slot_boxes`.
        samples: with `gt_instances_3d`, in the lidar frame of the head.
        min_iou, reach_m, max_slots: as said, in metres.
    """
    weights, index = sure.flatten(1).topk(min(max_slots, sure[0].numel()), 1)
    found = to_bev(slot_boxes(head, codes, index)).nan_to_num()
    labels = classes.flatten(1).gather(1, index)
    stays = torch.ones_like(weights)
    for b, sample in enumerate(samples):
        truth = sample.gt_instances_3d
        boxes = to_bev(truth.bboxes_3d.tensor).to(found)
        if not len(boxes):
            continue
        same = labels[b][:, None] == truth.labels_3d.to(labels.device)
        near = (torch.cdist(found[b, :, :2], boxes[:, :2]) <= reach_m) & same
        overlaps = (bev_iou(found[b], boxes) * same).amax(1)
        stays[b] = ((overlaps >= min_iou) | ~near.any(1)).to(stays.dtype)
    return torch.zeros_like(sure).flatten(1).scatter_(1, index, weights * stays).view_as(sure)
