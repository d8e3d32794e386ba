"""Heatmaps of several levels joined to one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception3d.checks import InputError

KINDS = ('single', 'mean', 'max', 'learned', 'density')
# The gate starts with most of its weight on the finest level: as a detector of that level alone.
_FINEST_BIAS = 2.0
_EMBEDDED = 16


class LevelAggregation(nn.Module):
    """Joins the logits of L levels, upsampled to the finest one, at every cell (DHA-R, our formulation).

    'single' takes the finest level, 'mean' and 'max' are what they say. 'learned' is a sum weighted by a softmax over
    the levels of a 1x1 convolution of all logits and of 16 channels of the finest features; it starts at zero, with a
    bias of 2 for the finest level. 'density' also sees log(1 + density), through which no gradient flows.

    Args:
        kind: one of these.
        levels: number of levels L.
        channels: channels of the finest features.
    """

    def __init__(self, kind: str, levels: int, channels: int) -> None:
        super().__init__()
        if kind not in KINDS:
            raise InputError(f'parts.aggregation is {kind!r}: expected one of {", ".join(KINDS)}')
        self.kind = kind
        self.embed, self.gate = None, None
        if kind in ('learned', 'density'):
            self.embed = nn.Conv2d(channels, _EMBEDDED, 1)
            self.gate = nn.Conv2d(levels + _EMBEDDED + (kind == 'density'), levels, 1)
            nn.init.zeros_(self.gate.weight)
            assert self.gate.bias is not None
            nn.init.zeros_(self.gate.bias)
            nn.init.constant_(self.gate.bias[:1], _FINEST_BIAS)

    def forward(self, levels: Tensor, features: Tensor, density: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Returns logits (B, 1, H, W) and gates (B, L, H, W), None where there are none.

        Args:
            levels: logits (B, L, H, W), finest level first.
            features: finest features (B, C, H, W).
            density: (B, 1, H, W) people per disc of 2 m radius, for 'density'.
        """
        if self.gate is None or self.embed is None:
            if self.kind == 'max':
                return levels.amax(1, keepdim=True), None
            return (levels[:, :1] if self.kind == 'single' else levels.mean(1, keepdim=True)), None
        parts = [levels, self.embed(features)]
        if self.kind == 'density':
            assert density is not None, 'the head has a density map for this kind'
            parts.append(density.detach().log1p())
        gates = torch.softmax(self.gate(torch.cat([part.to(parts[1].dtype) for part in parts], 1)).float(), 1)
        return (gates * levels.float()).sum(1, keepdim=True), gates
