"""A loss and an adapter that somebody else wrote."""

from __future__ import annotations

from torch import nn

from perception3d.registry import MODELS


@MODELS.register_module()
class PointGap(nn.Module):
    """Mean squared gap of two features; knows nothing of the mechanism."""

    def forward(self, student, teacher, context):
        return (student - teacher).square().mean()


@MODELS.register_module()
class PointAdapter(nn.Linear):
    """A linear layer on the last axis."""
