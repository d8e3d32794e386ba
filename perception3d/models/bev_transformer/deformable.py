"""Sampling of deformable attention, and where its offsets start (Deformable DETR, arXiv 2010.04159, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from mmcv.ops import get_compiling_cuda_version
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction, multi_scale_deformable_attn_pytorch
from torch import Tensor, nn

from perception3d.models.bev_transformer.cpu_sampling import SampleMaps

# mmcv may be built without CUDA on a machine that has a GPU: then its operator exists but cannot run.
_HAS_CUDA_OPERATOR = get_compiling_cuda_version() != 'not available'


def sample_maps(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums (M, Q, heads * D) of bilinear samples, in float32; outside of a map all is zero.

    Args:
        value: (M, sum of h*w, heads, D), the maps of all levels one after the other, row by row.
        shapes: (h, w) of each level.
        locations: (M, Q, heads, levels, points, 2) as fractions (x, y) of a map; 0 and 1 are its outer edges.
        weights: (M, Q, heads, levels, points).
    """
    value, locations, weights = value.float(), locations.float(), weights.float()
    if value.device.type == 'cpu' and not torch.jit.is_tracing() and not torch.onnx.is_in_onnx_export():
        return SampleMaps.apply(value, np.array(shapes), locations, weights)
    if not (value.is_cuda and _HAS_CUDA_OPERATOR):
        return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    sizes = torch.tensor(shapes, dtype=torch.long, device=value.device)
    areas = sizes.prod(1)
    return MultiScaleDeformableAttnFunction.apply(
        value.contiguous(), sizes, areas.cumsum(0) - areas, locations.contiguous(), weights.contiguous(), len(value)
    )


def init_sampling(offsets: nn.Linear, weights: nn.Linear, heads: int, levels: int, points: int) -> None:
    """Starts with equal weights and fixed offsets: head i looks in direction i, point k lies k + 1 pixels away."""
    angle = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
    ray = torch.stack([angle.cos(), angle.sin()], -1)
    ray = ray / ray.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, points + 1, dtype=torch.float32)
    start = ray[:, None, None] * steps[:, None]
    nn.init.zeros_(offsets.weight)
    nn.init.zeros_(weights.weight)
    nn.init.zeros_(weights.bias)
    with torch.no_grad():
        offsets.bias.copy_(start.expand(heads, levels, points, 2).reshape(-1))


def init_projection(*layers: nn.Linear) -> None:
    """Glorot weights and no bias."""
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


def inverse_sigmoid(fraction: Tensor, eps: float = 1e-5) -> Tensor:
    """Logits of fractions, which are kept `eps` away from 0 and 1."""
    return torch.logit(fraction, eps)
