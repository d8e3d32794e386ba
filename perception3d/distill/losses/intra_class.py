"""IFV: Intra-class Feature Variation Distillation for Semantic Segmentation (ECCV 2020), on active voxels or points."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import choice
from perception3d.distill.losses.voxel_rows import POINT, VOXEL, batch_voxels, labels_of, paired_rows, samples_of
from perception3d.registry import MODELS
from perception3d.structures.point_labels import IGNORE


def intra_class_loss(student: Tensor, teacher: Tensor, groups: Tensor) -> Tensor:
    """Difference of how similar each row is to the mean of its class.

    The prototype of a class is the mean feature of its rows, v_i the cosine similarity of row i with its prototype, and
    L = mean over rows of (v_S,i - v_T,i)^2. Channels may differ, and the length of a row does not matter much: it is
    its weight in the prototype.

    Args:
        student, teacher: features (N, C) and (N, C').
        groups: (N,) the class of each row, numbered apart for each sample; -1 for rows that do not count.

    Returns:
        Scalar; 0 where no row counts.
    """
    rows = (groups >= 0).nonzero()[:, 0]
    if not len(rows):
        return student.sum() * 0
    groups = groups[rows].unique(return_inverse=True)[1]
    difference = _variation(student.index_select(0, rows), groups) - _variation(teacher.index_select(0, rows), groups)
    return difference.square().mean()


def _variation(features: Tensor, groups: Tensor) -> Tensor:
    """Cosine similarity (N,) of each row with the mean of its group."""
    counts = torch.bincount(groups).to(features.dtype)
    sums = features.new_zeros(len(counts), features.shape[1]).index_add(0, groups, features)
    return F.cosine_similarity(features, (sums / counts[:, None]).index_select(0, groups), dim=1, eps=1e-6)


@MODELS.register_module()
class IntraClassKD(nn.Module):
    """`intra_class_loss` as the loss of a link, with the classes of the annotation in each sample (recalled).

    Args:
        of: 'voxel' or 'point': what a row is. Rows without a label do not count.
    """

    def __init__(self, of: str = VOXEL) -> None:
        super().__init__()
        self.of = choice('of', of, (POINT, VOXEL))

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of features (N, C) and (N, C')."""
        student, teacher = paired_rows(student, teacher, context, self.of, same_channels=False)
        voxels = batch_voxels(context)
        labels = labels_of(voxels, self.of)
        # IGNORE is the largest label.
        groups = torch.where(labels != IGNORE, samples_of(voxels, self.of) * IGNORE + labels, -1)
        return intra_class_loss(student, teacher, groups)
