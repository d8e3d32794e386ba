"""The encoder of BEVFormer: learned queries on a bird's-eye grid become a map of what the cameras see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.models.bev_transformer.deformable import init_projection
from perception3d.models.bev_transformer.motion import SIGNALS
from perception3d.models.bev_transformer.pillars import PillarGrid, PillarViews
from perception3d.models.bev_transformer.spatial_attention import SpatialCrossAttention
from perception3d.models.bev_transformer.temporal_attention import Memory, TemporalSelfAttention
from perception3d.models.blocks.camera import plane_shape
from perception3d.registry import MODELS


@dataclass(frozen=True)
class EncodedFrame:
    """What every layer reads of a frame.

    Attributes:
        grid: the cells of the queries.
        position: (Q, C) positional encoding.
        centers: (Q, 2) middles of the cells, as fractions of the map.
        initial: (B, Q, C) queries of the first layer.
        value: (B * N, sum of h*w, C) image features of all levels.
        shapes: (h, w) of the levels.
        views: which camera sees which pillar where.
        memory: the frame before, if any sample has one.
    """

    grid: PillarGrid
    position: Tensor
    centers: Tensor
    initial: Tensor
    value: Tensor
    shapes: Sequence[tuple[int, int]]
    views: PillarViews
    memory: Memory | None


class BEVFormerLayer(nn.Module):
    """Temporal self-attention, spatial cross-attention and a feed-forward network, each followed by a layer norm.

    Args:
        embed_dims, feedforward_channels: channels C, and those inside the feed-forward network.
        num_heads, num_levels, num_points, temporal_points: of the two attentions.
        dropout: probability.
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        temporal_points: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.temporal_attention = TemporalSelfAttention(embed_dims, num_heads, temporal_points, dropout)
        self.spatial_attention = SpatialCrossAttention(embed_dims, num_heads, num_levels, num_points, dropout)
        self.ffn = FFN(embed_dims, feedforward_channels, ffn_drop=dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dims) for _ in range(3))

    def forward(self, query: Tensor, frame: EncodedFrame) -> Tensor:
        """Returns the queries (B, Q, C) of the next layer from those of the layer before."""
        query = self.norms[0](
            self.temporal_attention(query, frame.position, frame.centers, frame.grid.shape, frame.memory, frame.initial)
        )
        query = self.norms[1](self.spatial_attention(query, frame.value, frame.shapes, frame.views))
        return self.norms[2](self.ffn(query))


@MODELS.register_module()
class BEVFormerEncoder(BaseModule):
    """Turns camera features into a bird's-eye map (BEVFormer, arXiv 2203.17270, sections 3.1 to 3.4).

    One learned query stands on every cell. All defaults are those of the released base model.

    Args:
        grid: arguments of `PillarGrid`.
        embed_dims: channels C, also of the image features.
        num_layers, num_heads, feedforward_channels, dropout: of the transformer.
        num_levels, num_cams: feature levels and cameras, each of which has an embedding.
        num_points: sampling points in a feature level, a multiple of the points of a pillar.
        temporal_points: sampling points in each of the two maps of temporal self-attention.
    """

    def __init__(
        self,
        grid: dict,
        embed_dims: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        feedforward_channels: int = 512,
        dropout: float = 0.1,
        num_levels: int = 4,
        num_cams: int = 6,
        num_points: int = 8,
        temporal_points: int = 4,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.grid = PillarGrid(**grid)
        if num_points % len(self.grid.heights_m):
            raise InputError(f'num_points {num_points} must be a multiple of the {len(self.grid.heights_m)} heights')
        nx, ny = self.grid.shape
        self.bev_embedding = nn.Embedding(nx * ny, embed_dims)
        self.column_embedding = nn.Embedding(nx, embed_dims // 2)
        self.row_embedding = nn.Embedding(ny, embed_dims // 2)
        self.level_embeds = nn.Parameter(torch.randn(num_levels, embed_dims))
        self.camera_embeds = nn.Parameter(torch.randn(num_cams, embed_dims))
        self.can_bus_mlp = nn.Sequential(
            nn.Linear(SIGNALS, embed_dims // 2),
            nn.ReLU(inplace=True),
            nn.Linear(embed_dims // 2, embed_dims),
            nn.ReLU(inplace=True),
            nn.LayerNorm(embed_dims),
        )
        self.layers = nn.ModuleList(
            BEVFormerLayer(
                embed_dims, feedforward_channels, num_heads, num_levels, num_points, temporal_points, dropout
            )
            for _ in range(num_layers)
        )
        for parameter in self.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for layer in self.layers:
            assert isinstance(layer, BEVFormerLayer)
            layer.temporal_attention.reset_parameters()
            layer.spatial_attention.reset_parameters()
        init_projection(*(part for part in self.can_bus_mlp if isinstance(part, nn.Linear)))
        nn.init.uniform_(self.column_embedding.weight)
        nn.init.uniform_(self.row_embedding.weight)

    def forward(
        self, levels: Sequence[Tensor], views: PillarViews, signals: Tensor, memory: Memory | None = None
    ) -> Tensor:
        """Returns the bird's-eye map (B, C, X, Y).

        Args:
            levels: L feature maps of one frame, each (B, N, C, h, w).
            views: which camera sees which pillar where.
            signals: (B, 18) the motion since the frame before (`motion_signals`).
            memory: the frame before, if any sample has one.

        Raises:
            InputError: the number of levels or of cameras is not that of the embeddings.
        """
        value, shapes = self.flatten_levels(levels)
        batch = len(views.queries)
        initial = self.bev_embedding.weight + self.can_bus_mlp(signals)[:, None]
        initial = initial.expand(batch, -1, -1)
        frame = EncodedFrame(
            grid=self.grid,
            position=self.positions(),
            centers=self.grid.centers(value.device),
            initial=initial,
            value=value,
            shapes=shapes,
            views=views,
            memory=memory,
        )
        query = initial
        for layer in self.layers:
            query = layer(query, frame)
        return self.grid.to_map(query)

    def positions(self) -> Tensor:
        """Positional encoding (Q, C): half of the channels encodes the column x, the other half the row y."""
        nx, ny = self.grid.shape
        columns = self.column_embedding.weight.repeat(ny, 1)
        rows = self.row_embedding.weight.repeat_interleave(nx, 0)
        return torch.cat([columns, rows], -1)

    def flatten_levels(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Joins the levels to (B * N, sum of h*w, C), with embeddings of camera and level; and their (h, w)."""
        if len(levels) != len(self.level_embeds):
            raise InputError(
                f'the neck gives {len(levels)} levels, the encoder has num_levels={len(self.level_embeds)}'
            )
        if levels[0].shape[1] != len(self.camera_embeds):
            raise InputError(
                f'the samples have {levels[0].shape[1]} cameras, the encoder num_cams={len(self.camera_embeds)}'
            )
        shapes = [plane_shape(level) for level in levels]
        rows = []
        for level, embedding in zip(levels, self.level_embeds, strict=True):
            own = (self.camera_embeds + embedding)[:, None].to(level.dtype)
            rows.append((level.flatten(3).transpose(2, 3) + own).flatten(0, 1))
        return torch.cat(rows, 1) if len(rows) > 1 else rows[0], shapes
