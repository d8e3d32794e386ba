"""IntRA-KD: Inter-Region Affinity Distillation for Road Marking Segmentation (arXiv 2004.05304).

The authors released no code of the distillation. Formulas marked [K] are recalled from the paper and were not checked
against its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import VARIANCE_EPS, maps_of_one_batch, unit_rows
from perception3d.registry import MODELS
from perception3d.structures.lanes import IGNORED


def areas_of_interest(masks: Tensor, num_classes: int, size: tuple[int, int], kernel: int = 5) -> Tensor:
    """The area of interest of each class: its blurred label on the grid of the features [K].

    The one-hot label is averaged over `kernel` x `kernel` pixels, at the border over those inside of the image, and
    then over the pixels of each cell of the grid.

    Args:
        masks: (B, H, W) class of each pixel; 255 is in no area.
        num_classes: N, the background included.
        size: height and width of the features.
        kernel: odd; 5 in the paper [K], 11 in a snippet of an author (issue 14 of the repository).

    Returns:
        (B, N, height, width), 0 to 1.

    Raises:
        InputError: a class of N or more.
    """
    top = int(torch.where(masks != IGNORED, masks, 0).max())
    if top >= num_classes:
        raise InputError(
            f'the label masks have class {top}, but num_classes is {num_classes}: count the background too'
        )
    one_hot = torch.stack([(masks == index) for index in range(num_classes)], 1).float()
    blurred = F.avg_pool2d(one_hot, kernel, stride=1, padding=kernel // 2, count_include_pad=False)
    return F.adaptive_avg_pool2d(blurred, size)


def region_moments(features: Tensor, areas: Tensor) -> Tensor:
    """The first three moments of the features in each area: mean, variance and skewness of every channel.

    With the weights w = M / sum(M) of an area M: mu1 = sum(w F), mu2 = sum(w (F - mu1)^2),
    mu3 = sum(w ((F - mu1) / sigma)^3), sigma = sqrt(mu2 + 1e-6). Recalled [K] is M inside of the powers,
    mu2 = sum((M F - mu1)^2) / |M|, and a division by mu2 itself: of an area that is 0 or 1 and sums over that area
    alone the first two agree. Ours is a moment for blurred areas too, and its gradient is finite for constant channels.

    Args:
        features: (B, C, H, W).
        areas: (B, N, H, W).

    Returns:
        (B, 3, N, C); zeros for an area that a sample lacks.
    """
    rows, masses = features.flatten(2), areas.flatten(2).to(features)
    weights = masses / masses.sum(2, keepdim=True).clamp(min=VARIANCE_EPS)
    means = weights @ rows.transpose(1, 2)
    higher = [
        _higher_moments(rows, weights[:, index, None], means[:, index, :, None]) for index in range(masses.shape[1])
    ]
    variances, skews = (torch.stack(moments, 1) for moments in zip(*higher, strict=True))
    return torch.stack([means, variances, skews], 1)


def _higher_moments(rows: Tensor, weights: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and skewness (B, C) of rows (B, C, P) with weights (B, 1, P)."""
    centred = rows - mean
    variance = (weights * centred.square()).sum(2)
    standard = centred * torch.rsqrt(variance + VARIANCE_EPS)[..., None]
    return variance, (weights * standard * standard * standard).sum(2)


def region_affinity(features: Tensor, areas: Tensor) -> Tensor:
    """Cosine similarities of the areas: C(i, j, r) = cos(mu_r(i), mu_r(j)) for the moments r = 1 to 3 [K].

    Returns:
        (B, 3, N, N) of features (B, C, H, W) and areas (B, N, H, W); 0 where a sample lacks an area.
    """
    moments = region_moments(features, areas)
    vectors = unit_rows(moments.flatten(0, 2)).view_as(moments)
    return vectors @ vectors.transpose(2, 3)


def inter_region_loss(student: Tensor, teacher: Tensor, areas: Sequence[Tensor]) -> Tensor:
    """Difference of the affinities of areas: L_m = 1 / (3 N^2) sum over r, i, j of (C_S - C_T)^2, mean over the batch.

    Channels and grids may differ. All formulas are recalled [K].

    Args:
        student: map (B, C, H, W).
        teacher: map (B, C', H', W').
        areas: `areas_of_interest` on the student's grid (B, N, H, W) and on the teacher's (B, N, H', W').

    Raises:
        InputError: the inputs are not maps of one batch.
    """
    student, teacher = maps_of_one_batch(student, teacher)
    difference = region_affinity(student, areas[0]) - region_affinity(teacher, areas[1])
    return difference.square().mean()


@MODELS.register_module()
class InterRegionKD(nn.Module):
    """`inter_region_loss` as the loss of a link, with the areas of the samples' `gt_lane_seg.lane_mask`.

    The paper adds attention maps (`AttentionTransfer`) and class probabilities (`LogitKL` on `seg_logits`), each part
    with weight 0.1 [K].

    Args:
        num_classes: classes of the label masks, the background included.
        kernel: of `areas_of_interest`.
    """

    def __init__(self, num_classes: int, kernel: int = 5) -> None:
        super().__init__()
        if num_classes < 2 or kernel < 1 or kernel % 2 == 0:
            raise InputError(
                f'num_classes={num_classes}, kernel={kernel}: expected two classes or more, and an odd kernel'
            )
        self.num_classes, self.kernel = num_classes, kernel

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of the maps `student` (B, C, H, W) and `teacher` (B, C', H', W')."""
        return inter_region_loss(student, teacher, [self._areas(x, context) for x in (student, teacher)])

    def _areas(self, features: Tensor, context: DistillContext) -> Tensor:
        """The areas on the grid of `features`, which links of one grid share."""
        size = (features.shape[2], features.shape[3])
        key = ('areas of interest', self.num_classes, self.kernel, size)

        def make() -> Tensor:
            masks = _label_masks(context.samples).to(features.device)
            return areas_of_interest(masks, self.num_classes, size, self.kernel)

        return context.shared(key, make)


def _label_masks(samples: Sequence[Any]) -> Tensor:
    """Returns the lane masks (B, H, W) of samples; InputError where a sample has none."""
    if any('gt_lane_seg' not in sample for sample in samples):
        raise InputError('a sample has no gt_lane_seg: end the training pipeline in PackLaneInputs, with label masks')
    return torch.cat([sample.gt_lane_seg.lane_mask for sample in samples])
