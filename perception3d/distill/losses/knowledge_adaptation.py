"""KA: Knowledge Adaptation for Efficient Semantic Segmentation (CVPR 2019), on active voxels or points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import choice, standardise, unit_rows
from perception3d.distill.losses.point_voxel import affinity_loss
from perception3d.distill.losses.supervoxels import SupervoxelSampler, build_sampler
from perception3d.distill.losses.voxel_rows import POINT, VOXEL, paired_rows, require_channels
from perception3d.registry import MODELS
from perception3d.structures.expected_data import ExpectedData


def reconstruction_loss(restored: Tensor, features: Tensor, code: Tensor, sparsity: float = 1e-7) -> Tensor:
    """What an auto-encoder loses: L = mean of (restored - features)^2 + sparsity * mean of |code|.

    Args:
        restored, features: output and input (N, C) of the auto-encoder.
        code: (N, D).
        sparsity: weight of the L1 norm of the code; 1e-7 in the paper (recalled).
    """
    error = (restored - features).square().sum() / max(features.numel(), 1)
    return error + sparsity * code.abs().sum() / max(code.numel(), 1)


def adaptation_loss(adapted: Tensor, code: Tensor) -> Tensor:
    """Squared distance of rows of length 1: L = mean over rows of |a / |a| - c / |c||^2.

    The paper leaves the kinds of both norms open (recalled); ours are 2-norms.

    Args:
        adapted: (N, D) of the student, after its adapter.
        code: (N, D) of the teacher.
    """
    return (unit_rows(adapted) - unit_rows(code)).square().sum() / max(len(adapted), 1)


@MODELS.register_module()
class KnowledgeAdaptationKD(nn.Module):
    """An auto-encoder makes a compact code of the teacher's features, which the student's features match.

        L = reconstruction_loss + adaptation_loss(adapter(S), code) + affinity_weight * affinity_loss(S, T)

    The paper trains the auto-encoder first, in a training of its own, and then keeps it. Here it is trained within the
    distillation, so that there is no second training and no file to hand on: alone in the first `autoencoder_steps`
    steps, and along with the student afterwards. Only the reconstruction trains it: the code is a constant for the
    student, which therefore cannot make its target easier. Its input is the teacher's features with zero mean and unit
    variance in each channel, so that their scale does not matter.

    A link's `match` is measured only from the step on in which the student is trained (`first_student_step`); what the
    reconstruction still loses then is part of the value.

    The affinities of the paper are between all positions of a small map. Ours are `affinity_loss` within the
    supervoxels of a step.

    Args:
        student_channels, teacher_channels: of the features.
        channels: D of the code.
        supervoxels: arguments of `SupervoxelSampler`.
        of: 'voxel' or 'point': what a row is.
        autoencoder_steps: in how many steps, from the first one of the training, only the auto-encoder is trained.
        affinity_weight: of the affinities against the adaptation.
        sparsity: of `reconstruction_loss`.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        channels: int,
        supervoxels: Mapping[str, Any] | SupervoxelSampler,
        of: str = VOXEL,
        autoencoder_steps: int = 0,
        affinity_weight: float = 1.0,
        sparsity: float = 1e-7,
    ) -> None:
        super().__init__()
        self.of, self.sampler = choice('of', of, (POINT, VOXEL)), build_sampler(supervoxels)
        self.channels = student_channels, teacher_channels
        self.autoencoder_steps, self.affinity_weight, self.sparsity = autoencoder_steps, affinity_weight, sparsity
        # What comes before says nothing about the size of the part that trains the student.
        self.first_student_step = autoencoder_steps
        self.encoder = nn.Sequential(nn.Linear(teacher_channels, channels), nn.ReLU())
        self.decoder = nn.Linear(channels, teacher_channels)
        self.adapter = nn.Sequential(nn.Linear(student_channels, channels), nn.ReLU())

    def expected_data(self) -> ExpectedData:
        """Returns the classes of the sampler."""
        return self.sampler.expected_data()

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of features (N, student_channels) and (N, teacher_channels)."""
        student, teacher = paired_rows(student, teacher, context, self.of, same_channels=False)
        require_channels(student, teacher, self.channels)
        features = standardise(teacher)
        code = self.encoder(features)
        loss = reconstruction_loss(self.decoder(code), features, code, self.sparsity)
        if context.step < self.autoencoder_steps:
            # Every parameter has a gradient in every step, which training in several processes needs.
            return loss + torch.stack([p.sum() for p in self.adapter.parameters()]).sum() * 0
        loss = loss + adaptation_loss(self.adapter(student), code.detach())
        if not self.affinity_weight:
            return loss
        drawn = self.sampler.shared_draw(context)
        return loss + self.affinity_weight * affinity_loss(
            student, teacher, drawn.points if self.of == POINT else drawn.voxels
        )
