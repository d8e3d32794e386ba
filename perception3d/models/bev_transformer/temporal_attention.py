"""Temporal self-attention: queries attend to the map of the frame before and to themselves (section 3.4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.models.bev_transformer.deformable import init_projection, init_sampling, sample_maps


class Memory(NamedTuple):
    """What queries read of the frame before.

    queries: (B, Q, C) the map of the frame before, rotated into the present axes.
    shift: (B, 2) where the LiDAR has moved since, along the present axes, as fractions of the map.
    known: (B,) False for samples that have no frame before; their rows are not used.
    """

    queries: Tensor
    shift: Tensor
    known: Tensor


class TemporalSelfAttention(nn.Module):
    """Deformable attention over two maps, the past and the present one, whose results are averaged.

    Offsets and weights follow from the past and the present query together. Without a past, the present map takes its
    place. The two maps are two levels of one deformable attention, whose weights sum to 1/2 each.

    Args:
        embed_dims: channels C.
        num_heads, num_points: heads, and sampling points in each map.
        dropout: probability, on the result.
    """

    def __init__(self, embed_dims: int, num_heads: int = 8, num_points: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise InputError(f'{embed_dims} channels do not split into {num_heads} heads')
        self.num_heads, self.num_points = num_heads, num_points
        samples = 2 * num_heads * num_points
        self.sampling_offsets = nn.Linear(2 * embed_dims, samples * 2)
        self.attention_weights = nn.Linear(2 * embed_dims, samples)
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the weights to where training starts."""
        init_sampling(self.sampling_offsets, self.attention_weights, self.num_heads, 2, self.num_points)
        init_projection(self.value_proj, self.output_proj)

    def forward(
        self,
        query: Tensor,
        position: Tensor,
        centers: Tensor,
        shape: tuple[int, int],
        memory: Memory | None = None,
        initial: Tensor | None = None,
    ) -> Tensor:
        """Returns queries (B, Q, C), each with the result of its attention added.

        Args:
            query: (B, Q, C).
            position: (Q, C) positional encoding.
            centers: (Q, 2) middles of the cells as fractions (x, y) of the map.
            shape: cells (X, Y).
            memory: the frame before, if any sample has one.
            initial: (B, Q, C) queries before the first layer: with a memory these are the present map, in every layer,
                as in the released model.
        """
        batch, queries, channels = query.shape
        past, places = query, centers.expand(batch, 2, queries, 2)
        if memory is None:
            value = self.value_proj(query).repeat(1, 2, 1)
        else:
            assert initial is not None, 'given with the memory'
            known = memory.known[:, None, None]
            past = torch.where(known, memory.queries.to(query.dtype), query)
            value = self.value_proj(torch.cat([past, torch.where(known, initial, query)], 1))
            shift = torch.where(known, memory.shift[:, None], 0)
            places = torch.stack([centers + shift, centers.expand(batch, queries, 2)], 1)
        joint = torch.cat([past, query + position], -1)
        heads, points = self.num_heads, self.num_points
        weights = self.attention_weights(joint).float().view(batch, queries, heads, 2, points).softmax(-1) / 2
        offsets = self.sampling_offsets(joint).float().view(batch, queries, heads, 2, points, 2)
        size = torch.tensor(shape, dtype=torch.float32, device=query.device)
        locations = places.transpose(1, 2)[:, :, None, :, None] + offsets / size
        value = value.view(batch, 2 * queries, heads, channels // heads)
        attended = sample_maps(value, [(shape[1], shape[0])] * 2, locations, weights)
        return query + self.dropout(self.output_proj(attended))
