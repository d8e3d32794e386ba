"""Channel-wise Knowledge Distillation (CWD, arXiv 2011.13256) on active voxels or points instead of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import choice, positive, tempered_kl
from perception3d.distill.losses.voxel_rows import POINT, VOXEL, batch_voxels, paired_rows, rows_of_samples
from perception3d.registry import MODELS


def row_channel_wise_loss(student: Tensor, teacher: Tensor, sizes: Sequence[int], tau: float = 4.0) -> Tensor:
    """KL divergence between the channels of rows, each channel taken as a distribution over the rows of a sample.

    L = tau^2 / C * sum over channels of KL(softmax_rows(T_c / tau) || softmax_rows(S_c / tau)), mean over the samples
    that have rows.

    Args:
        student, teacher: (N, C), the rows of one sample after another.
        sizes: number of rows of each sample.
        tau: temperature; 4 in the paper (recalled).

    Returns:
        Scalar; 0 where there are no rows.
    """
    pairs = zip(student.split(list(sizes)), teacher.split(list(sizes)))
    terms = [tempered_kl(t, s, tau, dim=0).mean() for s, t in pairs if len(s)]
    return torch.stack(terms).mean() if terms else student.sum() * 0


@MODELS.register_module()
class RowChannelWiseKD(nn.Module):
    """`row_channel_wise_loss` as the loss of a link, for logits or, through an adapter, features.

    Args:
        of: 'voxel' or 'point': what a row is.
        tau: of `row_channel_wise_loss`.
    """

    def __init__(self, of: str = VOXEL, tau: float = 4.0) -> None:
        super().__init__()
        self.of, self.tau = choice('of', of, (POINT, VOXEL)), positive('tau', tau)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of rows (N, C)."""
        student, teacher = paired_rows(student, teacher, context, self.of)
        return row_channel_wise_loss(student, teacher, rows_of_samples(batch_voxels(context), self.of), self.tau)
