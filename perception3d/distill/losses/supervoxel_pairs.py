"""SKD: Structured Knowledge Distillation for Semantic Segmentation (CVPR 2019, arXiv 1903.04197), pair-wise part.

The paper has three parts. Its pixel-wise part is `LogitKL` on rows of logits. The pair-wise part is here, between
supervoxels instead of pooled regions of an image. The holistic part, a GAN whose discriminator compares whole score
maps, is left out, as other re-implementations for detection and segmentation do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import choice, unit_rows
from perception3d.distill.losses.supervoxels import supervoxel_of, supervoxel_size
from perception3d.distill.losses.voxel_rows import POINT, VOXEL, batch_voxels, paired_rows
from perception3d.registry import MODELS


def supervoxel_pair_loss(student: Tensor, teacher: Tensor, regions: Tensor, shape: tuple[int, int]) -> Tensor:
    """Squared difference of the cosine similarities between the regions of a sample.

    The feature of a region is the mean of its rows. L = mean over samples of mean over pairs of regions with rows of
    (a_S,ij - a_T,ij)^2. Channels may differ, and the scale of either side does not matter.

    Args:
        student, teacher: features (N, C) and (N, C').
        regions: (N,) region of each row, in 0..B * R - 1.
        shape: B samples and R regions of each.

    Returns:
        Scalar; 0 where there are no rows.
    """
    counts = torch.bincount(regions, minlength=shape[0] * shape[1])
    similarities = []
    for side in (student, teacher):
        sums = side.new_zeros(len(counts), side.shape[1]).index_add(0, regions, side)
        unit = unit_rows(sums / counts.clamp(min=1)[:, None]).unflatten(0, shape)
        similarities.append(unit @ unit.transpose(1, 2))
    squares = (similarities[0] - similarities[1]).square().sum((1, 2))
    pairs = (counts.view(shape) > 0).sum(1).square()
    return (squares / pairs.clamp(min=1)).sum() / (pairs > 0).sum().clamp(min=1)


@MODELS.register_module()
class SupervoxelPairKD(nn.Module):
    """`supervoxel_pair_loss` between all supervoxels of a sample, as the loss of a link.

    Args:
        of: 'voxel' or 'point': what a row is.
        size: of a supervoxel in voxels; None for one that scales with the grid, see `supervoxel_size`.
    """

    def __init__(self, of: str = VOXEL, size: Sequence[int] | None = None) -> None:
        super().__init__()
        self.of, self.size = choice('of', of, (POINT, VOXEL)), size

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of features (N, C) and (N, C')."""
        student, teacher = paired_rows(student, teacher, context, self.of, same_channels=False)
        voxels = batch_voxels(context)
        size = supervoxel_size(voxels.grid_shape, self.size)
        index, per_sample = supervoxel_of(voxels.coords, voxels.grid_shape, size)
        regions = voxels.coords[:, 0].long() * per_sample + index
        if self.of == POINT:
            regions = regions[voxels.point_to_voxel]
        return supervoxel_pair_loss(student, teacher, regions, (len(voxels.point_counts), per_sample))
