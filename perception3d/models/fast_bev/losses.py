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

# Elements handled at once on a CPU: they stay in its cache, and up to 2^15 torch uses one thread: the barriers of
# several cost many times the work where a data loader keeps the cores busy.
_PIECE = 1 << 15


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


def memory_order(tensor: Tensor) -> list[int]:
    """Dimensions of `tensor` from the one with the longest stride to the one with the shortest, the first one first."""
    return [0, *sorted(range(1, tensor.dim()), key=lambda i: -tensor.stride()[i])]


def _as_row(tensor: Tensor, order: list[int]) -> Tensor:
    return tensor.permute(order).reshape(-1)


def _background(logits: Tensor, explained: Tensor | None, gamma: float, bound: float, out: Tensor) -> Tensor:
    """Sum of p^gamma * -log(1 - p), p = sigmoid(logits) * (1 - explained); `out` gets its derivative by the logits."""
    x = logits.clamp(max=bound)
    prob = x.sigmoid()
    rest = 1 - prob
    # -log(1 - sigmoid(x)) is x where the sigmoid rounds to 1.
    surprise = torch.maximum(prob.clamp(max=1 - 2**-24).neg_().log1p_().neg_(), x)
    tail = prob
    if explained is not None:
        remain = torch.addcmul(explained, 1 - explained, rest).clamp(min=1e-30)
        taken = explained > 0
        surprise = torch.where(taken, -torch.log(remain), surprise)
        prob = prob * (1 - explained)
        tail = torch.where(taken, prob * rest / remain, prob)
    focus = prob * prob if gamma == 2 else prob**gamma
    torch.mul(torch.addcmul(tail, rest, surprise, value=gamma), focus, out=out)
    return torch.dot(focus, surprise)


class _FocalBackground(torch.autograd.Function):
    """Background loss of a row of logits and, in the same pass, its derivative."""

    @staticmethod
    def forward(ctx, logits: Tensor, explained: Tensor, gamma: float, bound: float) -> Tensor:
        order = memory_order(logits)
        row, known = _as_row(logits, order), _as_row(explained, order)
        slope = torch.empty_like(row)
        total = row.new_zeros(())
        # On a CPU pieces that stay in its cache are several times faster, and most of them explain nothing.
        on_cpu = row.device.type == 'cpu'
        step = _PIECE if on_cpu else max(row.numel(), 1)
        for x, taken, out in zip(row.split(step), known.split(step), slope.split(step), strict=True):
            some = not on_cpu or bool(torch.dot(taken, taken) > 0)
            total += _background(x, taken if some else None, gamma, bound, out)
        ctx.save_for_backward(slope)
        ctx.order, ctx.shape = order, [logits.shape[i] for i in order]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        back = sorted(range(len(ctx.order)), key=ctx.order.__getitem__)
        return (slope * grad).view(ctx.shape).permute(back), None, None, None


def negative_loss(logits: Tensor, explained: Tensor, gamma: float, bound: float = 1e4) -> Tensor:
    """Focal background loss, a scalar sum over all anchors and classes.

    Args:
        logits: class logits, any shape. Above `bound` they count as `bound`, yet keep their gradient, so that even an
            overflow is pulled back; NaN stays NaN.
        explained: probability in [0, 1] that the anchor explains an object of the class; same shape, no gradient.
        gamma: focusing exponent.
        bound: largest logit that changes the value of the loss.
    """
    return _FocalBackground.apply(logits, explained, gamma, bound)
