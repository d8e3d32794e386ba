"""What lane networks give, and what their losses compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perception3d.checks import InputError
from perception3d.structures.lanes import IGNORED

STAGES = ('stage1', 'stage2', 'stage3', 'stage4')
"""Submodules of a model that pass on the maps of the four stages, for taps."""


@dataclass(frozen=True)
class LaneOutputs:
    """What a network gives for B images of (H, W) pixels; None for what it does not have.

    Attributes:
        stages: feature maps (B, C, h, w) of its four stages, the first with the most pixels.
        seg_logits: (B, 1 + L, H, W), background first, then the L slots.
        exist_logits: (B, L), before the sigmoid.
        embeddings: (B, E, H, W), near each other for pixels of one lane.
    """

    stages: tuple[Tensor, ...]
    seg_logits: Tensor | None = None
    exist_logits: Tensor | None = None
    embeddings: Tensor | None = None

    def required(self, name: str, user: str) -> Tensor:
        """Returns the output `name`; InputError, which names `user`, where the network does not give it."""
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise InputError(
                f'{user} reads {name}, but the network of this config gives none: leave it out, or give the network '
                'that branch'
            )
        return value

    def of_sample(self, k: int) -> LaneOutputs:
        """Returns the outputs of image k alone, with B = 1."""
        parts = (self.seg_logits, self.exist_logits, self.embeddings)
        return LaneOutputs(
            tuple(stage[k : k + 1] for stage in self.stages),
            *(None if part is None else part[k : k + 1] for part in parts),
        )


@dataclass(frozen=True)
class LaneTargets:
    """The ground truth of a batch.

    Attributes:
        mask: (B, H, W) int64: 0 for background, 1..L for the slots, `IGNORED`; with `agnostic` 1 for any lane.
        instances: (B, H, W) int64: the same with 1 + the number of the lane, with the slots where none are drawn.
        exist: (B, L) float32 of 0 and 1; None where a sample has none.
    """

    mask: Tensor
    instances: Tensor
    exist: Tensor | None = None


def lane_targets(samples: Sequence[Any], num_lanes: int, agnostic: bool = False) -> LaneTargets:
    """Returns the ground truth of samples with `gt_lane_seg.lane_mask` (1, H, W) and `gt_lane_exist.exist` (L,).

    Args:
        samples: of a batch.
        num_lanes: L, slots of the network.
        agnostic: all lanes are class 1, those of no slot too where the sample has `gt_lane_seg.lane_instances`.

    Raises:
        InputError: a sample has no mask, or its mask or existence is of another number of lanes; names the sample.
    """
    masks = []
    for sample in samples:
        mask = getattr(getattr(sample, 'gt_lane_seg', None), 'lane_mask', None)
        if mask is None:
            raise InputError(
                f'{_name(sample)} has no gt_lane_seg.lane_mask: load lane masks in the training pipeline '
                '(LoadLaneImage, PackLaneInputs)'
            )
        if agnostic:
            mask = sample.gt_lane_seg.get('lane_instances', mask)
        masks.append(mask[0])
    stacked = torch.stack(masks)
    if not agnostic:
        _check_masks(stacked, num_lanes, samples)
    instances = stacked.long()
    mask = torch.where((instances > 0) & (instances != IGNORED), 1, instances) if agnostic else instances
    exist = [getattr(getattr(sample, 'gt_lane_exist', None), 'exist', None) for sample in samples]
    known = [value.float() for value in exist if value is not None]
    if len(known) < len(exist):
        return LaneTargets(mask, instances)
    wrong = [sample for sample, value in zip(samples, known, strict=True) if len(value) != num_lanes]
    if wrong and not agnostic:
        raise InputError(
            f'{_name(wrong[0])} says of {len(wrong[0].gt_lane_exist.exist)} lanes whether they exist, but the network '
            f'has {num_lanes} (net.num_lanes): both must be the same'
        )
    return LaneTargets(mask, instances, None if wrong else torch.stack(known))


def _check_masks(masks: Tensor, num_lanes: int, samples: Sequence[Any]) -> None:
    wrong = (masks != IGNORED) & ((masks < 0) | (masks > num_lanes))
    # One wait for the device in a step, not one for each sample.
    if not bool(wrong.any()):
        return
    first = int(wrong.flatten(1).any(1).nonzero()[0])
    values = ', '.join(map(str, torch.unique(masks[first][wrong[first]]).tolist()[:5]))
    raise InputError(
        f'{_name(samples[first])}: its lane mask holds {values}, but the network has {num_lanes} lanes '
        f'(net.num_lanes): expected 0 to {num_lanes}, or {IGNORED} for pixels that do not count'
    )


def _name(sample: Any) -> str:
    meta = sample.metainfo
    return str(meta.get('frame_id') or (meta.get('img_paths') or ['a sample of the batch'])[0])
