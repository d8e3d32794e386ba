"""Spatial-temporal distillation, third part: compares how the cameras' views of one place relate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import full_precision, tempered_kl
from perception3d.distill.losses.view_kernels import CpuViewRelation, ViewImages
from perception3d.geometry.grid import VoxelGrid
from perception3d.geometry.lut import MapView, build_lut, find_overlaps, scale_to_features, valid_part
from perception3d.registry import MODELS


def view_relation_loss(
    student: Sequence[Any],
    teacher: Sequence[Any],
    grid: VoxelGrid,
    gram_weight: float = 1.0,
    temperature: float = 0.1,
) -> Tensor:
    """Relations of the camera views of the current frame, before the view transform picks one camera for each voxel.

    In voxels that two cameras see (about 12 % with the cameras of nuScenes; of more the first and the last count):
    g = cos(f_v, f_v') of the pixels onto which the voxel projects, L_overlap = mean (g^S - g^T)^2. Between whole
    images: the Gram matrix (N, N) of the cosines of the mean features of the N cameras, each row through a softmax,
    KL(T || S). L = L_overlap + gram_weight * L_gram. It needs no adapter; maps may differ in size and channels.

    Our formulation: the text of arXiv 2211.08398 is not public.

    Args:
        student, teacher: the arguments (levels, img_from_lidar, image_hw, valid_hw) of a view transform. The first
            level has `rows` (R, C), the pixels of all images, `hw` (height, width) of an image and `first` (B, F, N),
            the row of each image's first pixel. Only the student's rows get a gradient.
        grid: voxels of both networks.
        gram_weight: factor of the relation between whole images.
        temperature: of the softmax over a row of the Gram matrix.
    """
    compute = _on_cpu if _rows(student).device.type == 'cpu' else _on_gpu
    return compute(student, teacher, grid, gram_weight, temperature)


def _on_cpu(
    student: Sequence[Any], teacher: Sequence[Any], grid: VoxelGrid, gram_weight: float, temperature: float
) -> Tensor:
    views = (student, teacher)
    images = tuple(ViewImages(view[0][0].first[:, 0], view[0][0].hw, _valid_hw(view)) for view in views)
    scaled = [scale_to_features(view[1], view[2], part.hw)[:, 0] for view, part in zip(views, images, strict=True)]
    seen = [
        MapView(matrices, part.hw, part.valid_hw, part.first) for matrices, part in zip(scaled, images, strict=True)
    ]
    rows, teacher_rows = _rows(student), _rows(teacher).detach()
    return CpuViewRelation.apply(rows, teacher_rows, find_overlaps(seen, grid), images, gram_weight, temperature)


def _on_gpu(
    student: Sequence[Any], teacher: Sequence[Any], grid: VoxelGrid, gram_weight: float, temperature: float
) -> Tensor:
    views, rows = (student, teacher), (_rows(student), _rows(teacher).detach())
    # Rows for all voxels, so that their number is known without a device synchronisation. Maps of other sizes round
    # differently at the borders: a voxel counts where both networks have two pixels for it.
    tables = [_overlaps(view, grid) for view in views]
    both = (torch.stack(tables) >= 0).all(2).all(0)
    gap = (_cosines(rows[0], tables[0]) - _cosines(rows[1], tables[1])).square() * both
    loss = gap.sum() / both.sum().clamp(min=1)
    gram = [_gram(view, x) for view, x in zip(views, rows, strict=True)]
    return loss + gram_weight * tempered_kl(gram[1], gram[0], temperature, -1).mean() / temperature**2


def _overlaps(view: Sequence[Any], grid: VoxelGrid) -> Tensor:
    """Rows (V, 2) of the first and last camera that see each voxel of the current frame of the batch, or -1, -1."""
    level = view[0][0]
    scaled = scale_to_features(view[1], view[2], level.hw)
    device = level.rows.device
    tables = []
    for sample in range(len(scaled)):
        matrices = torch.from_numpy(scaled[sample, 0]).to(device)
        first_seen, last_seen = (
            build_lut(matrices, grid, level.hw, priority, _valid_hw(view)).flatten().long()
            for priority in ('first', 'last')
        )
        # Where the first camera that sees a voxel is also the last, it is the only one.
        lut = torch.stack([first_seen, last_seen], 1).masked_fill((first_seen == last_seen)[:, None], -1)
        area = level.hw[0] * level.hw[1]
        first = torch.from_numpy(level.first[sample, 0]).to(device)
        tables.append(torch.where(lut < 0, -1, first[lut.clamp(min=0) // area] + lut.clamp(min=0) % area))
    return torch.cat(tables)


def _gram(view: Sequence[Any], rows: Tensor) -> Tensor:
    """Cosines (B, N, N) between the mean features of the cameras of the current frame."""
    level = view[0][0]
    height, width = _valid_hw(view)
    area = level.hw[0] * level.hw[1]
    if np.array_equal(level.first.ravel(), np.arange(level.first.size) * area):
        # Image after image, as in training: a view, whose gradient needs no scatter.
        batch, frames, cameras = level.first.shape
        images = rows.view(batch, frames * cameras, *level.hw, -1)[:, :cameras, :height, :width].flatten(2, 3)
    else:
        first = torch.from_numpy(level.first[:, 0]).to(rows.device)
        image = torch.arange(area, device=rows.device).view(level.hw)[:height, :width]
        pixels = first[..., None] + image.flatten()
        images = rows.index_select(0, pixels.flatten()).unflatten(0, pixels.shape)
    # The sum has the direction of the mean, and its gradient needs no tensor of the size of the images.
    means = F.normalize(images.sum(2), dim=-1, eps=1e-6 * height * width)
    return means @ means.transpose(1, 2)


def _cosines(rows: Tensor, table: Tensor) -> Tensor:
    """Cosines (V,) of the two `rows` (R, C) that each line of `table` (V, 2) names; -1 stands for row 0."""
    # Both in one gather, whose gradient is one scatter.
    pairs = rows.index_select(0, table.t().reshape(-1).clamp(min=0)).unflatten(0, (2, len(table)))
    lengths = torch.linalg.vector_norm(pairs, dim=2).clamp(min=1e-6)
    first, second = pairs.unbind(0)
    return (first * second).sum(1) / (lengths[0] * lengths[1])


def _rows(view: Sequence[Any]) -> Tensor:
    return full_precision(view[0][0].rows)


def _valid_hw(view: Sequence[Any]) -> tuple[int, int]:
    """Height and width of the part of the features without padding."""
    image_hw, valid_hw = view[2], view[3] if len(view) > 3 else None
    return valid_part(image_hw, valid_hw or image_hw, view[0][0].hw)


@MODELS.register_module()
class ViewRelationKD(nn.Module):
    """`view_relation_loss` as the loss of a link between the arguments of two view transforms.

    Args:
        grid: voxels, or the arguments of `VoxelGrid`, of both networks.
        gram_weight, temperature: of `view_relation_loss`.
    """

    def __init__(self, grid: VoxelGrid | Mapping[str, Any], gram_weight: float = 1.0, temperature: float = 0.1) -> None:
        super().__init__()
        self.grid = grid if isinstance(grid, VoxelGrid) else VoxelGrid(**grid)
        self.gram_weight, self.temperature = gram_weight, temperature

    def forward(self, student: Sequence[Any], teacher: Sequence[Any], context: DistillContext) -> Tensor:
        """Scalar loss of the arguments of two view transforms (taps such as 'view_transforms.0:input')."""
        if isinstance(student, Tensor) or isinstance(teacher, Tensor) or min(len(student), len(teacher)) < 3:
            raise InputError(
                'this loss compares the arguments of a view transform, but the link taps an output: tap '
                "'view_transforms.0:input'"
            )
        return view_relation_loss(student, teacher, self.grid, self.gram_weight, self.temperature)
