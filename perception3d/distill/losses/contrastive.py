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


@MODELS.register_module()
class ContrastiveKD(nn.Module):
    """Tells the teacher's vector of a place from those of other places, and the student's likewise.

    With embeddings s_i = W_S x_i + b and t_i = W_T y_i + b of length 1, both learned, of n places in the batch:

        L = mean over i of -log softmax_j(s_i.t_j / tau)_i - log softmax_j(s_j.t_i / tau)_i

    The paper compares whole images, with negatives from a memory of the data set and a noise-contrastive estimate. How
    PointDistiller's authors took it to detectors is not public. Our formulation for dense features: the positive of a
    place is the same place in the other network, negatives are all other chosen places in the batch of one process,
    in the same frame and in others, and the estimate is InfoNCE. The `num_nodes` places of a frame are those where the
    teacher's largest channel is largest, so that empty ground does not fill the negatives.

    Outputs may be rows of voxels, sparse tensors, maps or points: see `vector_sets`.

    Args:
        student_channels, teacher_channels: of the features.
        channels: of the embedding; 128 in the released code.
        num_nodes: places in a sample.
        temperature: tau; 0.07 in the released code.
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
            raise InputError(f'num_nodes={num_nodes}: give at least one')
        self.channels = student_channels, teacher_channels
        self.num_nodes, self.temperature = num_nodes, positive('temperature', temperature)
        self.resample = resampling(resample)
        self.student_embedding = nn.Linear(student_channels, channels)
        self.teacher_embedding = nn.Linear(teacher_channels, channels)

    def forward(self, student: Any, teacher: Any, context: DistillContext | None = None) -> Tensor:
        """Returns the scalar loss of features that `vector_sets` understands; 0 where a batch has no vectors."""
        sets = vector_sets(student, teacher, context, self.channels, self.resample)
        if not sets.student:
            return sum(p.sum() for p in self.parameters()) * 0
        chosen = [x.amax(1).topk(min(self.num_nodes, len(x))).indices for x in sets.teacher]
        mine, theirs = (
            unit_rows(embed(torch.cat([x.index_select(0, rows) for x, rows in zip(vectors, chosen)])))
            for embed, vectors in (
                (self.student_embedding, sets.student),
                (self.teacher_embedding, sets.teacher),
            )
        )
        logits, same = mine @ theirs.T / self.temperature, torch.arange(len(mine), device=mine.device)
        return F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)
