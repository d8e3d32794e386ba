"""Heatmaps of object centres (CornerNet, CenterNet): the Gaussian around a centre, its radius, and the loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Centres(NamedTuple):
    """N objects to draw, every field (N,): sample in the batch, class, cell, radius in cells, whether to draw it."""

    sample: Tensor
    label: Tensor
    x: Tensor
    y: Tensor
    radius: Tensor
    valid: Tensor


def gaussian_radius(length: Tensor, width: Tensor, min_overlap: float) -> Tensor:
    """How far a box of `length` x `width` (N,) may be off and still overlap itself by IoU `min_overlap`; same unit.

    The least of CornerNet's three cases (arXiv 1808.01244) with the quadratic formula as CenterNet and mmdet3d use it,
    whose radii all published centre heads were trained with (for two cases it is not the exact root).
    """
    total, area = length + width, length * width
    cases = (
        (1.0, total, area * (1 - min_overlap) / (1 + min_overlap)),
        (4.0, 2 * total, (1 - min_overlap) * area),
        (4 * min_overlap, -2 * min_overlap * total, (min_overlap - 1) * area),
    )
    radii = [(b + torch.sqrt((b * b - 4 * a * c).clamp(min=0))) / 2 for a, b, c in cases]
    return torch.stack(radii).amin(0)


def draw_gaussians(heatmap: Tensor, centres: Centres, max_radius: int) -> None:
    """Writes a Gaussian for every centre into `heatmap` (B, C, X, Y), in place; where several meet, the largest stays.

    The standard deviation is (2 * radius + 1) / 6; cells further than the radius along an axis stay. `max_radius`
    bounds the radii.
    """
    steps = torch.arange(-max_radius, max_radius + 1, device=heatmap.device)
    at_x, at_y = (centres.x[:, None] + steps)[:, :, None], (centres.y[:, None] + steps)[:, None, :]
    far = torch.maximum(steps.abs()[:, None], steps.abs()[None]).float()
    square = (steps[:, None] ** 2 + steps[None] ** 2).float()
    sigma = (2 * centres.radius + 1) / 6
    value = torch.exp(-square / (2 * sigma * sigma)[:, None, None]) * (far <= centres.radius[:, None, None])
    on_map = (at_x >= 0) & (at_x < heatmap.shape[2]) & (at_y >= 0) & (at_y < heatmap.shape[3])
    value = value * (on_map & centres.valid[:, None, None])
    plane = (centres.sample * heatmap.shape[1] + centres.label)[:, None, None]
    index = (plane * heatmap.shape[2] + at_x.clamp(0, heatmap.shape[2] - 1)) * heatmap.shape[3]
    index = index + at_y.clamp(0, heatmap.shape[3] - 1)
    heatmap.view(-1).scatter_reduce_(0, index.flatten(), value.flatten(), 'amax')


def heatmap_loss(logits: Tensor, heatmap: Tensor, weight: Tensor | None = None) -> Tensor:
    """Penalty-reduced focal loss (CornerNet's, alpha 2, gamma 4) of `logits` against `heatmap`, summed to a scalar.

    Written with log-sigmoids, so that a logit of any finite size has a finite loss and gradient. `weight`, of the shape
    of the maps, multiplies the loss of each cell.
    """
    logits = logits.contiguous()
    prob = logits.sigmoid()
    log_prob = F.logsigmoid(logits)
    log_rest = log_prob - logits
    centre = heatmap == 1
    loss = torch.where(centre, log_prob * (1 - prob) ** 2, log_rest * prob**2 * (1 - heatmap) ** 4)
    return -(loss if weight is None else loss * weight).sum()
