"""A layer of the object decoder: Deformable DETR (arXiv 2010.04159) on the bird's-eye map."""

from __future__ import annotations

import torch
from mmcv.cnn.bricks.transformer import FFN, MultiheadAttention
from mmcv.ops import MultiScaleDeformableAttention
from torch import Tensor, nn


class DecoderLayer(nn.Module):
    """Self-attention of the objects, deformable attention to the map, feed-forward network; a layer norm after each.

    Args:
        embed_dims, feedforward_channels: channels C, and those inside the feed-forward network.
        num_heads, num_points: heads of both attentions, sampling points in the map.
        dropout: probability.
    """

    def __init__(
        self, embed_dims: int, feedforward_channels: int, num_heads: int, num_points: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_attention = MultiheadAttention(
            embed_dims, num_heads, attn_drop=dropout, proj_drop=dropout, batch_first=True
        )
        self.cross_attention = MultiScaleDeformableAttention(
            embed_dims, num_heads, num_levels=1, num_points=num_points, dropout=dropout, batch_first=True
        )
        self.ffn = FFN(embed_dims, feedforward_channels, ffn_drop=dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dims) for _ in range(3))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.cross_attention.init_weights()

    def forward(
        self, query: Tensor, position: Tensor, reference: Tensor, value: Tensor, shape: tuple[int, int]
    ) -> Tensor:
        """Returns the queries (B, Q, C) of the next layer.

        Args:
            query: (B, Q, C) objects.
            position: (B, Q, C) their positional encoding.
            reference: (B, Q, 2) where each object looks, fractions (x, y) of the map.
            value: (B, Y * X, C) the map, index y * X + x.
            shape: cells (X, Y).
        """
        query = self.norms[0](self.self_attention(query, query_pos=position))
        query = self.cross_attention(
            query,
            value=value,
            query_pos=position,
            reference_points=reference[:, :, None],
            spatial_shapes=torch.tensor([[shape[1], shape[0]]], device=value.device),
            level_start_index=torch.zeros(1, dtype=torch.long, device=value.device),
        )
        return self.norms[2](self.ffn(self.norms[1](query)))
