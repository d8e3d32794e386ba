"""One prediction for each object: the Hungarian matching of DETR (arXiv 2005.12872) with the costs of BEVFormer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

# Codes that count in the matching: all but the velocity.
_MATCHED_CODES = 8
# A cost that is not a number is worse than any other.
_WORST = 1e6


class Truth(NamedTuple):
    """Objects of one sample: codes (G, 10) with NaN for unknown velocities, labels (G,)."""

    codes: Tensor
    labels: Tensor


class Assignment(NamedTuple):
    """Targets of each prediction of (L, B, Q).

    labels: (L, B, Q) class, the number of classes where there is no object.
    codes: (L, B, Q, 10), 0 where there is no object or the number is not known.
    known: (L, B, Q, 10) bool: the code takes part in the loss.
    objects: how many objects have a prediction, in one layer.
    """

    labels: Tensor
    codes: Tensor
    known: Tensor
    objects: int


def focal_cost(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Returns the cost (..., Q, G) of giving predictions `logits` (..., Q, C) the class `labels` (G,): a focal loss."""
    own = logits.float()[..., labels]
    probability = own.sigmoid()
    yes = alpha * (1 - probability) ** gamma * -F.logsigmoid(own)
    no = (1 - alpha) * probability**gamma * -F.logsigmoid(-own)
    return yes - no


@torch.no_grad()
def match(
    logits: Tensor, codes: Tensor, truth: Sequence[Truth], class_weight: float = 2.0, box_weight: float = 0.25
) -> Assignment:
    """Matches the objects of each sample to predictions, for every layer by itself, at the least total cost.

    Args:
        logits: (L, B, Q, C).
        codes: (L, B, Q, 10).
        truth: objects of the B samples; beyond Q, some stay without a prediction.
        class_weight, box_weight: weights of the focal cost and of the L1 distance of codes without velocity.
    """
    layers, _, queries, classes = logits.shape
    labels = torch.full(logits.shape[:3], classes, dtype=torch.long, device=logits.device)
    targets = torch.zeros(codes.shape, dtype=torch.float32, device=logits.device)
    known = torch.zeros(codes.shape, dtype=torch.bool, device=logits.device)
    objects = 0
    for b, own in enumerate(truth):
        if not len(own.labels):
            continue
        distance = torch.cdist(codes[:, b, :, :_MATCHED_CODES].float(), own.codes[:, :_MATCHED_CODES], p=1)
        cost = class_weight * focal_cost(logits[:, b], own.labels) + box_weight * distance
        # One transfer for all layers.
        tables = cost.nan_to_num(_WORST, _WORST, -_WORST).cpu().numpy()
        for layer in range(layers):
            rows, columns = linear_sum_assignment(tables[layer])
            rows, columns = (torch.from_numpy(part).to(logits.device) for part in (rows, columns))
            labels[layer, b, rows] = own.labels[columns]
            finite = own.codes[columns].isfinite()
            known[layer, b, rows] = finite
            targets[layer, b, rows] = torch.where(finite, own.codes[columns], 0)
        objects += min(len(own.labels), queries)
    return Assignment(labels, targets, known, objects)
