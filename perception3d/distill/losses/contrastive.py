"""CRD: Contrastive Representation Distillation (arXiv 1910.10699)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import positive, resampling, unit_rows
from perception3d.distill.losses.vectors import vector_sets
from perception3d.registry import MODELS


def contrastive_loss(student: Tensor, teacher: Tensor, temperature: float = 0.07) -> Tensor:
    """InfoNCE in both directions between the embeddings of the same places in two networks.

    With rows s_i and t_i divided by their length:

        L = mean over i of -log softmax_j(s_i.t_j / tau)_i - log softmax_j(s_j.t_i / tau)_i

    The positive of row i is row i of the other network, its negatives are all other rows. The paper uses negatives from
    a memory of the data set and a noise-contrastive estimate instead.

    Args:
        student, teacher: embeddings (N, D); row i of both belongs to the same place.
        temperature: tau; 0.07 in the released code.
    """
    student, teacher = unit_rows(student), unit_rows(teacher)
    logits, same = student @ teacher.T / temperature, torch.arange(len(student), device=student.device)
    return F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)


@MODELS.register_module()
class ContrastiveKD(nn.Module):
    """`contrastive_loss` of learned linear embeddings s_i = W_S x_i + b and t_i = W_T y_i + b.

    The paper compares whole images. How PointDistiller's authors applied it to detectors is not public. Our formulation
    for dense features: a row is a place (pillar, voxel, cell or point), and negatives are all other chosen places in
    the batch of one process, in the same frame and in others. The `num_nodes` places of a frame are those where the
    teacher's largest channel is largest, so that most negatives are not empty ground.

    Outputs may be rows of voxels, sparse tensors, maps or points: see `vector_sets`.

    Args:
        student_channels, teacher_channels: of the features.
        channels: of the embedding; 128 in the released code.
        num_nodes: places in a sample.
        temperature: of `contrastive_loss`.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        channels: int = 128,
        num_nodes: int = 256,
        temperature: float = 0.07,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        if num_nodes < 1:
            raise InputError(f'num_nodes must be at least 1, got {num_nodes}')
        self.channels = student_channels, teacher_channels
        self.num_nodes, self.temperature = num_nodes, positive('temperature', temperature)
        self.resample = resampling(resample)
        self.student_embedding = nn.Linear(student_channels, channels)
        self.teacher_embedding = nn.Linear(teacher_channels, channels)

    def forward(self, student: Any, teacher: Any, context: DistillContext | None = None) -> Tensor:
        """Scalar loss of features that `vector_sets` understands; 0 where a batch has no vectors."""
        sets = vector_sets(student, teacher, context, self.channels, self.resample)
        if not sets.student:
            return torch.stack([p.sum() for p in self.parameters()]).sum() * 0
        chosen = [x.amax(1).topk(min(self.num_nodes, len(x))).indices for x in sets.teacher]
        student_rows, teacher_rows = (
            embed(torch.cat([x.index_select(0, rows) for x, rows in zip(vectors, chosen)]))
            for embed, vectors in ((self.student_embedding, sets.student), (self.teacher_embedding, sets.teacher))
        )
        return contrastive_loss(student_rows, teacher_rows, self.temperature)
