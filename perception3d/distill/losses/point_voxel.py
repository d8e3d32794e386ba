"""PVD: Point-to-Voxel Knowledge Distillation for LiDAR Semantic Segmentation (arXiv 2206.02099).

Four losses: the class probabilities of points and of voxels, and the similarities between the points, and between the
voxels, of supervoxels that are drawn at random. The authors did not release this code. What is marked "recalled" is
from memory of the paper and could not be checked against its text; "own proposal" is not in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import choice, positive, tempered_kl, unit_rows
from perception3d.distill.losses.supervoxels import RowSets, SupervoxelSampler, build_sampler
from perception3d.distill.losses.voxel_rows import (
    POINT,
    VOXEL,
    Voxels,
    batch_voxels,
    is_labelled,
    paired_rows,
    points_of_voxels,
)
from perception3d.registry import MODELS
from perception3d.structures.expected_data import ExpectedData


def output_loss(
    student: Tensor,
    teacher: Tensor,
    tau: float = 1.0,
    direction: str = 'forward',
    counted: Tensor | None = None,
    total: int | None = None,
) -> Tensor:
    """KL divergence of the class probabilities of rows.

    L = tau^2 / Z * sum over rows n of KL(p_T(n) || p_S(n)), p = softmax(logits / tau).

    Args:
        student, teacher: logits (N, C).
        tau: temperature.
        direction: 'forward' for KL(T || S), or 'reverse' for KL(S || T), which the paper prints (recalled).
        counted: (N,) whether a row counts; None for all.
        total: Z; None for the number of rows that count.

    Returns:
        Scalar; 0 where no row counts.
    """
    target, other = (student, teacher) if direction == 'reverse' else (teacher, student)
    divergence = tempered_kl(target, other, tau, dim=1)
    if counted is not None:
        divergence = divergence.where(counted, 0)
    if total is not None:
        return divergence.sum() / total
    rows = divergence.new_tensor(len(divergence)) if counted is None else counted.sum()
    return divergence.sum() / rows.clamp(min=1)


def affinity_loss(student: Tensor, teacher: Tensor, sets: RowSets, padding: str = 'masked') -> Tensor:
    """Squared difference of the cosine similarities within each set of rows (recalled).

    C(i, j, r) = F_r(i).F_r(j) / (|F_r(i)| |F_r(j)|),   L = mean over sets r of mean over i, j of (C_S - C_T)^2

    A row of zeros has the similarity 0 to every row. Channels may differ, and the length of a row does not matter.

    Args:
        student, teacher: features (R, C) and (R, C') of all rows.
        sets: G sets of N of these rows.
        padding: for sets with less than N rows. 'masked' takes the mean over the pairs that exist, and over the sets
            that are not empty (own proposal). 'zeros' fills up with rows of zeros, as the paper does (recalled): they
            add nothing to the sum and count in the mean.

    Returns:
        Scalar; 0 where all sets are empty.
    """
    difference = _similarities(student, sets) - _similarities(teacher, sets)
    squares = difference.square().sum((1, 2))
    if padding == 'zeros':
        return squares.sum() / max(difference.numel(), 1)
    pairs = sets.mask.sum(1).square()
    return (squares / pairs.clamp(min=1)).sum() / (pairs > 0).sum().clamp(min=1)


def _similarities(features: Tensor, sets: RowSets) -> Tensor:
    """Cosine similarities (G, N, N) of the rows of each set."""
    gathered = sets.gather(features)
    unit = unit_rows(gathered.flatten(0, 1)).view_as(gathered)
    return unit @ unit.transpose(1, 2)


class _OutputKD(nn.Module):
    """`output_loss` of the points or the voxels of a batch."""

    kind: str

    def __init__(
        self,
        tau: float = 1.0,
        direction: str = 'forward',
        normalizer: str = 'active',
        skip_ignored: bool = False,
    ) -> None:
        super().__init__()
        self.tau = positive('tau', tau)
        self.direction = choice('direction', direction, ('forward', 'reverse'))
        self.literal = choice('normalizer', normalizer, ('active', 'grid')) == 'grid'
        self.skip_ignored = skip_ignored

    def _counted(self, voxels: Voxels) -> Tensor | None:
        return is_labelled(voxels, self.kind) if self.skip_ignored else None

    def _total(self, places: int, classes: int) -> int | None:
        return max(places * classes, 1) if self.literal else None


@MODELS.register_module()
class PointOutputKD(_OutputKD):
    """`output_loss` of the class logits of all points: taps `point_logits` of both.

    Args:
        tau, direction: of `output_loss`. The paper has no temperature (recalled).
        normalizer: 'active' takes the mean over the points that count. 'grid' divides by N * C, the number of points
            times classes, as the paper does (recalled).
        skip_ignored: leave out points without a label.
        teacher_of: 'voxel' gives each point the logits of its voxel in the teacher, whose tap is then `voxel_logits`:
            for a teacher that predicts from voxels and a student that has points alone (own proposal).
    """

    kind = POINT

    def __init__(self, teacher_of: str = POINT, **settings: Any) -> None:
        super().__init__(**settings)
        self.teacher_of = choice('teacher_of', teacher_of, (POINT, VOXEL))

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of logits (P, K); of the teacher also (M, K)."""
        if self.teacher_of == VOXEL:
            teacher = points_of_voxels(teacher, batch_voxels(context))
        student, teacher = paired_rows(student, teacher, context, POINT)
        total = self._total(*student.shape)
        return output_loss(student, teacher, self.tau, self.direction, self._counted(batch_voxels(context)), total)


@MODELS.register_module()
class VoxelOutputKD(_OutputKD):
    """`output_loss` of the class logits of the active voxels: taps `voxel_logits` of both.

    Args:
        tau, direction: of `output_loss`. The paper has no temperature (recalled).
        normalizer: 'active' takes the mean over the active voxels that count, which is what we recommend. 'grid'
            divides by R * A * H * C, all cells of the grids of the batch times classes, as the paper does (recalled):
            empty cells have no divergence, and at 480 x 360 x 32 the loss is a few thousand times smaller.
        skip_ignored: leave out voxels without a label.
    """

    kind = VOXEL

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of logits (M, K)."""
        student, teacher = paired_rows(student, teacher, context, VOXEL)
        voxels = batch_voxels(context)
        total = self._total(math.prod(voxels.grid_shape) * len(voxels.point_counts), student.shape[1])
        return output_loss(student, teacher, self.tau, self.direction, self._counted(voxels), total)


class _AffinityKD(nn.Module):
    """`affinity_loss` of the points or the voxels of the supervoxels that are drawn in a step."""

    def __init__(self, supervoxels: Mapping[str, Any] | SupervoxelSampler, padding: str = 'masked') -> None:
        super().__init__()
        self.sampler = build_sampler(supervoxels)
        self.padding = choice('padding', padding, ('masked', 'zeros'))

    def expected_data(self) -> ExpectedData:
        """Returns the classes of the sampler."""
        return self.sampler.expected_data()


@MODELS.register_module()
class PointAffinityKD(_AffinityKD):
    """`affinity_loss` of the features of points: taps `point_features` of both.

    Supervoxels are those of the teacher's voxels, so that a student may have others or none.

    Args:
        supervoxels: arguments of `SupervoxelSampler`; losses with equal ones share what is drawn in a step.
        padding: of `affinity_loss`.
    """

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of features (P, C) and (P, C')."""
        student, teacher = paired_rows(student, teacher, context, POINT, same_channels=False)
        return affinity_loss(student, teacher, self.sampler.shared_draw(context).points, self.padding)


@MODELS.register_module()
class VoxelAffinityKD(_AffinityKD):
    """`affinity_loss` of the features of active voxels: taps `voxel_features` of both.

    Args:
        supervoxels: arguments of `SupervoxelSampler`; losses with equal ones share what is drawn in a step.
        padding: of `affinity_loss`.
    """

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of features (M, C) and (M, C')."""
        student, teacher = paired_rows(student, teacher, context, VOXEL, same_channels=False)
        return affinity_loss(student, teacher, self.sampler.shared_draw(context).voxels, self.padding)
