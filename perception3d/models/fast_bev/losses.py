"""FreeAnchor losses on logits (arXiv 1909.02466): mean-max bags for objects, focal loss for everything else.

Probabilities are never formed where they could round to 0 or 1: both losses are written with log-sigmoids, so that a
logit of any finite size has a finite loss and gradient. (The released head computed BCE on clamped probabilities and
collapsed to NaN in half precision.)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def localisation_loss(reg: Tensor, targets: Tensor, weights: Tensor, beta: float, scale: float) -> Tensor:
    """Weighted smooth L1 (N, K) between codes `reg` and `targets` (N, K, 9), summed over the nine, times `scale`.

    The yaw difference enters as its sine. A target that is not finite (an unknown velocity) contributes nothing: the
    bag probability is a product over the codes, and the factor of an unknown code is 1.
    """
    known = targets.isfinite()
    gap = reg - torch.where(known, targets, torch.zeros_like(targets))
    gap = torch.cat([gap[..., :6], torch.sin(gap[..., 6:7]), gap[..., 7:]], -1)
    loss = F.smooth_l1_loss(gap, torch.zeros_like(gap), beta=beta, reduction='none')
    return scale * (loss * (weights * known)).sum(-1)


def positive_bag_loss(class_logits: Tensor, penalty: Tensor) -> Tensor:
    """-log of the mean-max of P over each bag, (N,), with P = sigmoid(class_logits) * exp(-penalty), both (N, K).

    The weights of the mean are 1 / (1 - P): few good anchors outweigh many bad ones, yet all get a gradient.
    """
    log_prob = F.logsigmoid(class_logits) - penalty
    log_weight = -torch.log((-torch.expm1(log_prob)).clamp(min=1e-12))
    return torch.logsumexp(log_weight, 1) - torch.logsumexp(log_weight + log_prob, 1)


class _FocalBackground(torch.autograd.Function):
    """Sum of p^gamma * -log(1 - p) with p = sigmoid(x) * (1 - explained), and its gradient in the same pass."""

    @staticmethod
    def forward(ctx, logits: Tensor, explained: Tensor, gamma: float) -> Tensor:
        free = logits.sigmoid()
        rest = 1 - free
        prob = free * (1 - explained)
        remain = explained + (1 - explained) * rest
        taken = explained > 0
        # log(1 - p): where nothing is explained softplus stays exact when sigmoid rounds to 1.
        surprise = torch.where(taken, -torch.log(remain.clamp(min=1e-30)), F.softplus(logits))
        focus = prob**gamma
        ratio = torch.where(taken, rest / remain.clamp(min=1e-30), torch.ones_like(rest))
        ctx.save_for_backward(focus * (gamma * rest * surprise + prob * ratio))
        return (focus * surprise).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad, None, None


def negative_loss(logits: Tensor, explained: Tensor, gamma: float) -> Tensor:
    """Focal background loss, a scalar sum over all anchors and classes.

    Args:
        logits: class logits, any shape, finite.
        explained: probability in [0, 1] that the anchor explains an object of the class; same shape, no gradient.
        gamma: focusing exponent.
    """
    return _FocalBackground.apply(logits, explained, gamma)
