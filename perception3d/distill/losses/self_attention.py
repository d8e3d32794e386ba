"""SAD: Learning Lightweight Lane Detection CNNs by Self Attention Distillation (arXiv 1908.00821)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import VARIANCE_EPS, choice, full_precision, maps_of_one_batch, positive
from perception3d.distill.nested import tensors_of
from perception3d.registry import MODELS

NORMS = ('softmax', 'zsoftmax', 'l2', 'sum1')
_RESIZES, _CHANNELS = ('target', 'input'), ('sum', 'mean')


def attention_map(
    features: Tensor,
    size: tuple[int, int],
    p: float = 2.0,
    channels: str = 'sum',
    norm: str = 'zsoftmax',
    temperature: float = 1.0,
) -> Tensor:
    """Where the features of a map are strong: Psi(A) = Phi(B(G(A))) of the paper.

    G is the sum (or mean) over channels of |A|^p, B resizes it bilinearly to `size`, corners not aligned, and Phi
    normalises it over the H W positions:

    - 'softmax': softmax(G / T), the literal form. With `channels='sum'` and T = 1 a sum of squares, thousands with a
      spread of thousands, becomes exactly one-hot, and its gradient exactly zero: nothing is learned.
    - 'zsoftmax': softmax((G - mean) / (std T)), which does not depend on the scale of the features. Our formulation.
    - 'l2': G / ||G||_2. On a small ENet its gradient is 0.06 to 0.22 of that of 'zsoftmax' with random weights, and 0.7
      to 1.4 of it after 264 iterations (`docs/results/lane_sad_norms.md`); its maps are nearly even.
    - 'sum1': G / sum(G). Its gradient is hundreds of times smaller than that of 'zsoftmax', so that the weight must be
      larger by as much.

    Args:
        features: (B, C, H', W').
        size: height and width of the map.
        p: power of the activations, 1 or more; 2 in the paper.
        channels: 'sum' or 'mean'.
        norm: Phi.
        temperature: T, of the two softmaxes.

    Returns:
        (B, H W).
    """
    strength = full_precision(features).abs().pow(p)
    strength = strength.sum(1, keepdim=True) if channels == 'sum' else strength.mean(1, keepdim=True)
    if strength.shape[2:] != torch.Size(size):
        strength = F.interpolate(strength, size, mode='bilinear', align_corners=False)
    rows = strength.flatten(1)
    if norm == 'l2':
        return F.normalize(rows)
    if norm == 'sum1':
        return F.normalize(rows, p=1.0)
    if norm == 'zsoftmax':
        centred = rows - rows.mean(1, keepdim=True)
        rows = centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + VARIANCE_EPS)
    return (rows / temperature).softmax(1)


def self_attention_loss(
    student: Tensor,
    teacher: Tensor,
    size: tuple[int, int] | None = None,
    p: float = 2.0,
    channels: str = 'sum',
    norm: str = 'zsoftmax',
    temperature: float = 1.0,
) -> Tensor:
    """Squared difference of two attention maps: L = sum over positions of (Psi(S) - Psi(T))^2, mean over the batch.

    The sum, not the mean over positions: softmax maps are of the order 1 / (H W). The deeper map is the target and gets
    no gradient. Numbers of channels may differ.

    Args:
        student: the shallower map (B, C, H, W).
        teacher: the deeper map (B, C', H', W').
        size: height and width at which they are compared; None for the student's.
        p, channels, norm, temperature: of `attention_map`.

    Raises:
        InputError: the inputs are not maps of one batch.
    """
    student, teacher = maps_of_one_batch(student, teacher)
    height, width = size or student.shape[2:]
    maps = [attention_map(x, (height, width), p, channels, norm, temperature) for x in (student, teacher)]
    return (maps[0] - maps[1]).square().sum(1).mean()


def relative_entropy(rows: Tensor) -> Tensor:
    """Entropy of maps (B, N), each made to sum to 1, divided by log(N), mean over the batch.

    1: the same value everywhere; 0: all in one position, as of a saturated softmax.
    """
    shares = rows / rows.sum(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    return torch.special.entr(shares).sum(1).mean() / math.log(max(rows.shape[1], 2))


@MODELS.register_module()
class SelfAttentionKD(nn.Module):
    """`self_attention_loss` as the loss of a link between two stages of one network (`teacher=None`), or of two.

    The paper links stage 2 to 3 and 3 to 4 (students `stage2` and `stage3`) with weight 0.1, from two thirds of the
    training on. The log has `entropy` and `target_entropy`, see `relative_entropy`.

    Args:
        p, channels, norm, temperature: of `attention_map`.
        resize: 'target' resizes the deeper map to the shallower one's size, 'input' both to that of the input image, as
            the released Torch7 code does (its softmax is over the batch by mistake, and is not reproduced).

    Raises:
        InputError: a setting that is unknown or not positive, p below 1; with 'input', inputs without an image (B, C,
            H, W).
    """

    def __init__(
        self,
        p: float = 2.0,
        channels: str = 'sum',
        norm: str = 'zsoftmax',
        temperature: float = 1.0,
        resize: str = 'target',
    ) -> None:
        super().__init__()
        self.resize = choice('resize', resize, _RESIZES)
        if not p >= 1:
            # The derivative of |A|^p is not finite at 0, where a ReLU leaves most activations.
            raise InputError(f'p is {p}: expected 1 or more')
        self.settings: dict[str, Any] = {
            'p': float(p),
            'channels': choice('channels', channels, _CHANNELS),
            'norm': choice('norm', norm, NORMS),
            'temperature': positive('temperature', temperature),
        }

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext | None = None) -> Tensor:
        """Scalar loss of the maps `student` (B, C, H, W) and `teacher` (B, C', H', W')."""
        return self_attention_loss(student, teacher, self._size(student, context), **self.settings)

    def measures(self, student: Tensor, teacher: Tensor, context: DistillContext | None = None) -> dict[str, Tensor]:
        """Entropies of both attention maps."""
        size = self._size(student, context)
        maps = [attention_map(x, size, **self.settings) for x in (student, teacher)]
        return {'entropy': relative_entropy(maps[0]), 'target_entropy': relative_entropy(maps[1])}

    def _size(self, student: Tensor, context: DistillContext | None) -> tuple[int, int]:
        if self.resize == 'target':
            return student.shape[2], student.shape[3]
        images = [x for x in tensors_of(None if context is None else context.inputs) if x.dim() == 4]
        if not images:
            raise InputError("resize='input': the inputs have no image (B, C, H, W): set resize='target'")
        return images[0].shape[2], images[0].shape[3]
