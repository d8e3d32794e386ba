"""Improve Object Detection with Feature-based Knowledge Distillation (Zhang & Ma, ICLR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.losses.maps import paired_maps, positive, resampling
from perception3d.registry import MODELS


@dataclass(frozen=True)
class AdaptedFeatures:
    """The outputs of the learned layers of `AttentionGuidedKD`.

    Attributes:
        features: r(S), the student's map (B, Ct, H, W) with the teacher's channels.
        channels: A(mean over positions of S), (B, Ct).
        positions: B(mean over channels of S), (B, 1, H, W).
        student_relation: R(n_S(S)), (B, Ct, H, W).
        teacher_relation: n_T(T), (B, Ct, H, W).
    """

    features: Tensor
    channels: Tensor
    positions: Tensor
    student_relation: Tensor
    teacher_relation: Tensor


@dataclass(frozen=True)
class AttentionGuidedWeights:
    """Weights of the three terms of `attention_guided_loss`; the defaults are those of the public implementation."""

    feature: float = 7e-5
    attention: float = 4e-3
    relation: float = 7e-5


def attention_guided_loss(
    student: Tensor,
    teacher: Tensor,
    adapted: AdaptedFeatures,
    weights: AttentionGuidedWeights = AttentionGuidedWeights(),
    temperature: float = 0.1,
) -> Tensor:
    """Attention-guided and non-local distillation of maps.

    With a_S, a_T the mean |F| over channels (H, W), and c_S, c_T that over positions (C,):

        M = (H W softmax(a_S / tau) + H W softmax(a_T / tau)) / 2,  and N likewise of c with C softmax
        L = weights.feature * || sqrt(M N) (r(S) - T) ||
            + weights.attention * (|| A(mean over positions of S) - mean over positions of T ||
                                   + || B(mean over channels of S) - mean over channels of T ||)
            + weights.relation * || R(n_S(S)) - n_T(T) ||

    where norms are plain 2-norms over the batch, r and R are 1x1 convolutions, A a linear layer, B a 3x3 convolution
    and n(F) = F + BN(W theta(phi^T g / (H W))) non-local blocks with the dot product of the embeddings as relation.
    Masks have no gradient. This follows copies of the public two-stage implementation and its weights (tau 0.1, 7e-5,
    4e-3, 7e-5); the text of the paper was not available to us.

    Two differences to it: c_S is that of r(S), because the student has other channels; and the blocks do not pool phi
    and g, because the product is computed from the right, which needs no H W x H W matrix. As there, n_T is learned
    too; its residual connection prevents it from becoming zero.

    Args:
        student: map (B, Cs, H, W).
        teacher: map (B, Ct, H, W), without gradient.
        adapted: outputs of the layers r, A, B, R, n_S and n_T.
        weights: of the terms.
        temperature: tau of both masks.
    """
    mask = _mask(student.detach(), teacher, 1, temperature)
    mask = mask * _mask(adapted.features.detach(), teacher, (2, 3), temperature)
    # The norm has no gradient where it is 0, and autograd gives 0 there.
    feature = torch.linalg.vector_norm((adapted.features - teacher) * mask.sqrt())
    channel = torch.linalg.vector_norm(adapted.channels - teacher.mean((2, 3)))
    attention = channel + torch.linalg.vector_norm(adapted.positions - teacher.mean(1, keepdim=True))
    relation = torch.linalg.vector_norm(adapted.student_relation - adapted.teacher_relation)
    return weights.feature * feature + weights.attention * attention + weights.relation * relation


def _mask(student: Tensor, teacher: Tensor, over: int | tuple[int, int], temperature: float) -> Tensor:
    """Mean of both masks, (B, 1, H, W) where |F| is averaged over channels, (B, C, 1, 1) where over positions."""
    masks = []
    for features in (student, teacher):
        strength = features.abs().mean(over, keepdim=True)
        flat = strength.flatten(1)
        masks.append(((flat / temperature).softmax(1) * flat.shape[1]).view_as(strength))
    return (masks[0] + masks[1]) / 2


@MODELS.register_module()
class AttentionGuidedKD(nn.Module):
    """`attention_guided_loss` with its learned layers, as the loss of a link.

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
        self.weights = AttentionGuidedWeights(feature_weight, attention_weight, relation_weight)
        self.resample = resampling(resample)
        self.feature_adapter = nn.Conv2d(student_channels, teacher_channels, 1)
        self.channel_adapter = nn.Linear(student_channels, teacher_channels)
        self.spatial_adapter = nn.Conv2d(1, 1, 3, padding=1)
        self.student_relation, self.teacher_relation = NonLocal(student_channels), NonLocal(teacher_channels)
        self.relation_adapter = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of the maps `student` (B, Cs, H, W) and `teacher` (B, Ct, H', W').

        Raises:
            InputError: the inputs are not maps of one batch with these channels.
        """
        student, teacher = paired_maps(student, teacher, same_channels=False, resample=self.resample)
        if (student.shape[1], teacher.shape[1]) != self.channels:
            raise InputError(
                f'the layers are made for {self.channels[0]} and {self.channels[1]} channels of student and teacher, '
                f'but the features have {student.shape[1]} and {teacher.shape[1]}: set student_channels and '
                'teacher_channels of the loss'
            )
        adapted = AdaptedFeatures(
            features=self.feature_adapter(student),
            channels=self.channel_adapter(student.mean((2, 3))),
            positions=self.spatial_adapter(student.mean(1, keepdim=True)),
            student_relation=self.relation_adapter(self.student_relation(student)),
            teacher_relation=self.teacher_relation(teacher),
        )
        return attention_guided_loss(student, teacher, adapted, self.weights, self.temperature)


class NonLocal(nn.Module):
    """Non-local block (arXiv 1711.07971) with the dot product as relation, F + BN(W theta (phi^T g) / (H W)).

    At initialisation it is the identity: the scale of its batch norm is 0.

    Args:
        channels: of the maps; the embeddings have half as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.embed = nn.Conv2d(channels, 3 * inner, 1)
        norm = nn.BatchNorm2d(channels)
        self.out = nn.Sequential(nn.Conv2d(inner, channels, 1), norm)
        nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps of the same shape."""
        theta, phi, g = self.embed(x).flatten(2).chunk(3, 1)
        # y_i = sum_j (theta_i.phi_j) g_j / (H W), the sum over j first.
        product = g @ phi.transpose(1, 2) / g.shape[2] @ theta
        return x + self.out(product.unflatten(2, x.shape[2:]))
