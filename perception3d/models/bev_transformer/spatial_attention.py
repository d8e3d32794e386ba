"""Spatial cross-attention: pillars of the BEV grid attend to the cameras that see them (BEVFormer, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.models.bev_transformer.deformable import init_projection, init_sampling, sample_maps
from perception3d.models.bev_transformer.pillars import PillarViews


class PillarDeformableAttention(nn.Module):
    """Deformable attention in which every query has D reference points, the projected points of its pillar.

    Sampling point p belongs to reference point p % D, as in the released model.

    Args:
        embed_dims: channels C.
        num_heads, num_levels, num_points: heads, feature levels, sampling points in a level for all D together.
    """

    def __init__(self, embed_dims: int, num_heads: int = 8, num_levels: int = 4, num_points: int = 8) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise InputError(f'{embed_dims} channels do not split into {num_heads} heads')
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, samples * 2)
        self.attention_weights = nn.Linear(embed_dims, samples)
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the weights to where training starts."""
        init_sampling(self.sampling_offsets, self.attention_weights, self.num_heads, self.num_levels, self.num_points)
        init_projection(self.value_proj)

    def forward(self, query: Tensor, value: Tensor, shapes: Sequence[tuple[int, int]], points: Tensor) -> Tensor:
        """Returns the samples (M, K, C) of `value` (M, sum of h*w, C) around `points` (M, K, D, 2) for each query."""
        rows, count, channels = query.shape
        heads, levels, samples = self.num_heads, self.num_levels, self.num_points
        height = points.shape[2]
        if samples % height:
            raise InputError(f'{samples} sampling points cannot be divided among the {height} points of a pillar')
        value = self.value_proj(value).view(rows, -1, heads, channels // heads)
        weights = self.attention_weights(query).float().view(rows, count, heads, levels * samples).softmax(-1)
        offsets = self.sampling_offsets(query).float().view(rows, count, heads, levels, samples // height, height, 2)
        size = torch.tensor([(w, h) for h, w in shapes], dtype=torch.float32, device=query.device)
        places = points[:, :, None, None, None] + offsets / size[:, None, None]
        return sample_maps(value, shapes, places.flatten(4, 5), weights.view(rows, count, heads, levels, samples))


class SpatialCrossAttention(nn.Module):
    """Every pillar takes the mean of what it samples from the cameras that see it; the result is added to the query.

    Args:
        embed_dims: channels C.
        num_heads, num_levels, num_points: of the deformable attention.
        dropout: probability, on the result.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.deformable_attention = PillarDeformableAttention(embed_dims, num_heads, num_levels, num_points)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the weights to where training starts."""
        self.deformable_attention.reset_parameters()
        init_projection(self.output_proj)

    def forward(self, query: Tensor, value: Tensor, shapes: Sequence[tuple[int, int]], views: PillarViews) -> Tensor:
        """Returns queries (B, Q, C), each with the result of its attention added.

        Args:
            query: (B, Q, C).
            value: (B * N, sum of h*w, C) features of all levels of every camera.
            shapes: (h, w) of the levels.
            views: which camera sees which query where.
        """
        batch, queries, channels = query.shape
        first = torch.arange(batch, device=query.device)[:, None, None] * queries
        rows = (views.queries + first).flatten()
        # Only pairs of a camera and a pillar that it sees are computed.
        own = query.reshape(-1, channels).index_select(0, rows).view(-1, views.queries.shape[2], channels)
        sampled = self.deformable_attention(own, value, shapes, views.points.flatten(0, 1))
        sampled = sampled.flatten(0, 1) * views.valid.flatten()[:, None]
        total = sampled.new_zeros(batch * queries, channels).index_add(0, rows, sampled)
        mean = total.view(batch, queries, channels) / views.cameras.clamp(min=1)[..., None]
        return query + self.dropout(self.output_proj(mean))
