"""Losses of labels on rows of logits: those of active voxels, or of points. Empty cells have no row and no loss.

Functions first, then the modules that configs name. Labels are 0..K-1; rows with `IGNORE` do not count. Without any
other row a loss is 0, with a gradient of 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.ops.descending import descending_order
from perception3d.registry import MODELS
from perception3d.structures.point_labels import IGNORE


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Returns the mean cross-entropy of labelled rows, weighted by class and divided by the sum of the weights.

    Args:
        logits: (N, K).
        labels: (N,) int64.
        class_weights: (K,), or None for 1.
    """
    rows = labels != IGNORE
    weights = None if class_weights is None else class_weights.to(logits.device, torch.float32)
    return _mean(F.cross_entropy(logits[rows].float(), labels[rows], weights, reduction='none'), labels[rows], weights)


def ohem_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    threshold: float = 0.7,
    min_kept: float = 0.1,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Returns the cross-entropy of hard rows: those whose class has a probability below `threshold`.

    At least the share `min_kept` of the labelled rows counts, the hardest ones (online hard example mining as
    segmentation uses it). The threshold, the share and the weights are not stated for Cylinder3D or PVD: defaults are
    ours.
    """
    rows = labels != IGNORE
    logits, labels = logits[rows].float(), labels[rows]
    weights = None if class_weights is None else class_weights.to(logits.device, torch.float32)
    plain = F.cross_entropy(logits, labels, reduction='none')
    with torch.no_grad():
        hard = plain > -torch.log(torch.tensor(threshold, device=plain.device))
        least = min(len(plain), int(len(plain) * min_kept) + 1)
        hard[plain.topk(least).indices] = True
    values = plain if weights is None else plain * weights[labels]
    return _mean(values[hard], labels[hard], weights)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the Lovasz-softmax loss (arXiv 1705.08790) of the classes that the labels of the batch hold.

    The extension of 1 - IoU of each such class to probabilities, averaged over these classes.
    """
    rows = labels != IGNORE
    logits, labels = logits[rows].float(), labels[rows]
    if not len(labels):
        return logits.sum() * 0
    present = torch.unique(labels)
    probabilities = logits.softmax(1)[:, present].T
    of_class = (labels == present[:, None]).float()
    errors = (of_class - probabilities).abs()
    order = descending_order(errors)
    errors, of_class = errors.gather(1, order), of_class.gather(1, order)
    total = of_class.sum(1, keepdim=True)
    jaccard = 1 - (total - of_class.cumsum(1)) / (total + (1 - of_class).cumsum(1))
    steps = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], 1)
    return (errors * steps).sum(1).mean()


def _mean(values: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    total = values.new_tensor(float(len(values))) if weights is None else weights[labels].sum()
    return values.sum() / total.clamp(min=torch.finfo(values.dtype).tiny)


def _weights(class_weights: Sequence[float] | None) -> Tensor | None:
    if class_weights is not None and not all(weight >= 0 for weight in class_weights):
        raise InputError(f'class_weights are {list(class_weights)}: expected numbers of 0 or more')
    return None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)


@MODELS.register_module()
class WeightedCrossEntropy(nn.Module):
    """`cross_entropy` of logits (N, K) and labels (N,).

    Args:
        class_weights: one for each class; None for 1. The paper weights classes, the released code does not.
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.class_weights = _weights(class_weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss."""
        return cross_entropy(logits, labels, self.class_weights)


@MODELS.register_module()
class OhemCrossEntropy(nn.Module):
    """`ohem_cross_entropy` of logits (N, K) and labels (N,).

    Args:
        threshold, min_kept: as of the function.
        class_weights: one for each class; None for 1.
    """

    def __init__(
        self, threshold: float = 0.7, min_kept: float = 0.1, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if not (0 < threshold <= 1 and 0 <= min_kept <= 1):
            raise InputError(f'threshold is {threshold} and min_kept {min_kept}: expected numbers from 0 to 1')
        self.threshold, self.min_kept, self.class_weights = threshold, min_kept, _weights(class_weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss."""
        return ohem_cross_entropy(logits, labels, self.threshold, self.min_kept, self.class_weights)


@MODELS.register_module()
class LovaszSoftmax(nn.Module):
    """`lovasz_softmax` of logits (N, K) and labels (N,)."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss."""
        return lovasz_softmax(logits, labels)
