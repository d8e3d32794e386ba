"""Weights of the pillars of a BEV map, from the teacher's class logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.losses.maps import full_precision


def pillar_scores(logits: Tensor, transposed: bool = False) -> Tensor:
    """The best class probability (B, 1, X, Y) of every pillar, float32, from logits (B, classes or anchors, X, Y).

    `transposed` is for heads whose outputs are (Y, X) while the features are (X, Y), as the head of Fast-BEV.
    """
    if logits.ndim != 4:
        raise InputError(f'pillar weights need class logits (B, C, X, Y), got {tuple(logits.shape)}: tap them')
    best = full_precision(logits.detach()).amax(1, keepdim=True).sigmoid()
    return best.transpose(2, 3) if transposed else best


def pillar_weights(logits: Tensor, size: Sequence[int], gamma: float = 1.0, transposed: bool = False) -> Tensor:
    """Weights (B, 1, X, Y) of the pillars of a map of `size`, of mean 1 in each sample: score ** gamma / mean.

    Scores of another size, as of a head on a coarser map, are resized (bilinear).
    """
    scores = pillar_scores(logits, transposed)
    if tuple(scores.shape[2:]) != tuple(size):
        scores = F.interpolate(scores, size, mode='bilinear', align_corners=False)
    raised = scores**gamma
    return raised / raised.mean((1, 2, 3), keepdim=True).clamp(min=torch.finfo(raised.dtype).tiny)
