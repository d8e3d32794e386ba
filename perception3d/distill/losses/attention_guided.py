"""Improve Object Detection with Feature-based Knowledge Distillation (Zhang & Ma, ICLR 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.losses.maps import paired_maps, positive, resampling
from perception3d.registry import MODELS


@MODELS.register_module()
class AttentionGuidedKD(nn.Module):
    """Attention-guided and non-local distillation of maps.

    With a_S, a_T the mean |F| over channels (H, W), and c_S, c_T that over positions (C,):

        M = (H W softmax(a_S / tau) + H W softmax(a_T / tau)) / 2,  and N likewise of c with C softmax
        L = feature_weight * || sqrt(M N) (r(S) - T) ||
            + attention_weight * (|| A(mean over positions of S) - mean over positions of T ||
                                  + || B(mean over channels of S) - mean over channels of T ||)
            + relation_weight * || R(n_S(S)) - n_T(T) ||

    where norms are plain 2-norms over the batch, r and R are 1x1 convolutions, A a linear layer, B a 3x3 convolution
    and n(F) = F + BN(W theta(phi^T g / (H W))) non-local blocks with the dot product of the embeddings as relation.
    Masks carry no gradient. This follows the public two-stage implementation and its weights (tau 0.1, 7e-5, 4e-3,
    7e-5), read in copies of it; the text of the paper was not at hand.

    What differs: c_S is that of r(S), since the student has other channels; the blocks do not pool phi and g, because
    the product is taken from the right, which needs no H W x H W matrix. As there, n_T is learned too; its residual
    keeps it from vanishing.

    Args:
        student_channels, teacher_channels: of the maps.
        temperature: tau of both masks.
        feature_weight, attention_weight, relation_weight: of the terms.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        temperature: float = 0.1,
        feature_weight: float = 7e-5,
        attention_weight: float = 4e-3,
        relation_weight: float = 7e-5,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.temperature = (student_channels, teacher_channels), positive('temperature', temperature)
        self.feature_weight, self.attention_weight = feature_weight, attention_weight
        self.relation_weight, self.resample = relation_weight, resampling(resample)
        self.feature_adapter = nn.Conv2d(student_channels, teacher_channels, 1)
        self.channel_adapter = nn.Linear(student_channels, teacher_channels)
        self.spatial_adapter = nn.Conv2d(1, 1, 3, padding=1)
        self.student_relation, self.teacher_relation = NonLocal(student_channels), NonLocal(teacher_channels)
        self.relation_adapter = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of the maps `student` (B, Cs, H, W) and `teacher` (B, Ct, H', W').

        Raises:
            InputError: for what are not maps of one batch with these channels.
        """
        student, teacher = paired_maps(student, teacher, same_channels=False, resample=self.resample)
        if (student.shape[1], teacher.shape[1]) != self.channels:
            raise InputError(
                f'the layers are made for {self.channels[0]} and {self.channels[1]} channels of student and teacher, '
                f'the features have {student.shape[1]} and {teacher.shape[1]}'
            )
        adapted = self.feature_adapter(student)
        mask = self._mask(student.detach(), teacher, 1) * self._mask(adapted.detach(), teacher, (2, 3))
        # The norm has no gradient where it is 0, and autograd gives 0 there.
        feature = torch.linalg.vector_norm((adapted - teacher) * mask.sqrt())
        channel = torch.linalg.vector_norm(self.channel_adapter(student.mean((2, 3))) - teacher.mean((2, 3)))
        spatial = self.spatial_adapter(student.mean(1, keepdim=True)) - teacher.mean(1, keepdim=True)
        relation = self.relation_adapter(self.student_relation(student)) - self.teacher_relation(teacher)
        attention = channel + torch.linalg.vector_norm(spatial)
        return (
            self.feature_weight * feature
            + self.attention_weight * attention
            + self.relation_weight * torch.linalg.vector_norm(relation)
        )

    def _mask(self, student: Tensor, teacher: Tensor, over: int | tuple[int, int]) -> Tensor:
        """Mean of both masks, (B, 1, H, W) where |F| is averaged over channels, (B, C, 1, 1) where over positions."""
        masks = []
        for features in (student, teacher):
            strength = features.abs().mean(over, keepdim=True)
            flat = strength.flatten(1)
            masks.append(((flat / self.temperature).softmax(1) * flat.shape[1]).view_as(strength))
        return (masks[0] + masks[1]) / 2


class NonLocal(nn.Module):
    """Non-local block (arXiv 1711.07971) with the dot product as relation, F + BN(W theta (phi^T g) / (H W)).

    It begins as the identity: the scale of its batch norm is 0 at first.

    Args:
        channels: of the maps; the embeddings have half as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.embed = nn.Conv2d(channels, 3 * inner, 1)
        self.out = nn.Sequential(nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels))
        nn.init.zeros_(self.out[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps of the same shape."""
        theta, phi, g = self.embed(x).flatten(2).chunk(3, 1)
        # y_i = sum_j (theta_i.phi_j) g_j / (H W), the sum over j first.
        product = g @ phi.transpose(1, 2) / g.shape[2] @ theta
        return x + self.out(product.unflatten(2, x.shape[2:]))
