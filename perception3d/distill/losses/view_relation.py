"""Spatial-temporal distillation, third part: how the cameras' views of one place relate."""

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
from perception3d.distill.losses.view_kernels import HostViewRelation
from perception3d.geometry.grid import VoxelGrid
from perception3d.geometry.lut import build_lut, find_overlaps, scale_to_features, valid_part
from perception3d.registry import MODELS


@MODELS.register_module()
class ViewRelationKD(nn.Module):
    """Relations of the views of the current frame, before one camera wins each voxel.

    In voxels that two cameras see (about 12 % with the cameras of nuScenes; of more the first and the last count):
    g = cos(f_v, f_v') of the pixels that the voxel falls on, L_overlap = mean (g^S - g^T)^2. Between whole images: the
    Gram matrix (N, N) of the cosines of the mean features of the N cameras, each row through a softmax, KL(T || S).
    L = L_overlap + gram_weight * L_gram. It needs no adapter; maps may differ in size and channels.

    Our formulation: the text of arXiv 2211.08398 is not public.

    Args:
        grid: voxels, or the arguments of `VoxelGrid`, of both networks.
        gram_weight: factor of the relation between whole images.
        temperature: of the softmax over a row.
    """

    def __init__(self, grid: VoxelGrid | Mapping[str, Any], gram_weight: float = 1.0, temperature: float = 0.1) -> None:
        super().__init__()
        self.grid = grid if isinstance(grid, VoxelGrid) else VoxelGrid(**grid)
        self.gram_weight, self.temperature = gram_weight, temperature

    def forward(self, student: Sequence[Any], teacher: Sequence[Any], context: DistillContext) -> Tensor:
        """Returns the scalar loss of the arguments of two view transforms (taps such as 'view_transforms.0:input').

        Those are (levels, img_from_lidar, image_hw, valid_hw), a level with `rows` (R, C), `hw` and `first` (B, F, N).
        """
        if isinstance(student, Tensor) or isinstance(teacher, Tensor) or min(len(student), len(teacher)) < 3:
            raise InputError("views need the arguments of a view transform: tap 'view_transforms.0:input'")
        mine, theirs = _rows(student), _rows(teacher).detach()
        return (self._on_host if mine.device.type == 'cpu' else self._on_device)((student, teacher), mine, theirs)

    def _on_host(self, views: Sequence[Sequence[Any]], mine: Tensor, theirs: Tensor) -> Tensor:
        images = [(view[0][0].first[:, 0], view[0][0].hw, _valid_hw(view)) for view in views]
        scaled = [scale_to_features(view[1], view[2], hw)[:, 0] for view, (_, hw, _) in zip(views, images, strict=True)]
        seen = [(matrices, hw, valid, first) for matrices, (first, hw, valid) in zip(scaled, images, strict=True)]
        overlaps = find_overlaps(seen, self.grid)
        return HostViewRelation.apply(mine, theirs, overlaps, images, self.gram_weight, self.temperature)

    def _on_device(self, views: Sequence[Sequence[Any]], mine: Tensor, theirs: Tensor) -> Tensor:
        # Rounding at the borders of maps of other sizes: a voxel counts where both networks have two pixels for it.
        tables, both = self._all_overlaps(views)
        gap = (_cosines(mine, tables[0]) - _cosines(theirs, tables[1])).square() * both
        loss = gap.sum() / both.sum().clamp(min=1)
        gram = [self._gram(view, rows) for view, rows in zip(views, (mine, theirs), strict=True)]
        return (
            loss + self.gram_weight * tempered_kl(gram[1], gram[0], self.temperature, -1).mean() / self.temperature**2
        )

    def _all_overlaps(self, views: Sequence[Sequence[Any]]) -> tuple[list[Tensor], Tensor]:
        """Rows (V, 2) for all voxels on a device, which need not be asked how many count, and which do."""
        tables = [self._overlaps(view) for view in views]
        return tables, (torch.stack(tables) >= 0).all(2).all(0)

    def _overlaps(self, view: Sequence[Any]) -> Tensor:
        """Rows (V, 2) of the first and last camera that see each voxel of the current frame of the batch, or -1, -1."""
        level = view[0][0]
        scaled = scale_to_features(view[1], view[2], level.hw)
        device = level.rows.device
        tables = []
        for sample in range(len(scaled)):
            matrices = torch.from_numpy(scaled[sample, 0]).to(device)
            first_seen, last_seen = (
                build_lut(matrices, self.grid, level.hw, priority, _valid_hw(view)).flatten().long()
                for priority in ('first', 'last')
            )
            # Where the first camera that sees a voxel is also the last, it is the only one.
            lut = torch.stack([first_seen, last_seen], 1).masked_fill((first_seen == last_seen)[:, None], -1)
            area = level.hw[0] * level.hw[1]
            first = torch.from_numpy(level.first[sample, 0]).to(device)
            tables.append(torch.where(lut < 0, -1, first[lut.clamp(min=0) // area] + lut.clamp(min=0) % area))
        return torch.cat(tables)

    def _gram(self, view: Sequence[Any], rows: Tensor) -> Tensor:
        """Cosines (B, N, N) between the mean features of the cameras of the current frame."""
        level = view[0][0]
        height, width = _valid_hw(view)
        area = level.hw[0] * level.hw[1]
        if np.array_equal(level.first.ravel(), np.arange(level.first.size) * area):
            # Image after image, as in training: a view, whose gradient needs no scattering.
            batch, frames, cameras = level.first.shape
            images = rows.view(batch, frames * cameras, *level.hw, -1)[:, :cameras, :height, :width].flatten(2, 3)
        else:
            first = torch.from_numpy(level.first[:, 0]).to(rows.device)
            image = torch.arange(area, device=rows.device).view(level.hw)[:height, :width]
            pixels = first[..., None] + image.flatten()
            images = rows.index_select(0, pixels.flatten()).unflatten(0, pixels.shape)
        # The direction of the sum is that of the mean, and its gradient is no tensor of the size of the images.
        means = F.normalize(images.sum(2), dim=-1, eps=1e-6 * height * width)
        return means @ means.transpose(1, 2)


def _cosines(rows: Tensor, table: Tensor) -> Tensor:
    """Cosines (V,) of the two `rows` (R, C) that each line of `table` (V, 2) names, -1 standing for row 0."""
    # Both in one gather, whose gradient is one scatter.
    pairs = rows.index_select(0, table.t().reshape(-1).clamp(min=0)).unflatten(0, (2, len(table)))
    lengths = torch.linalg.vector_norm(pairs, dim=2).clamp(min=1e-6)
    first, second = pairs.unbind(0)
    return (first * second).sum(1) / (lengths[0] * lengths[1])


def _rows(view: Sequence[Any]) -> Tensor:
    return full_precision(view[0][0].rows)


def _valid_hw(view: Sequence[Any]) -> tuple[int, int]:
    """Height and width of the part of the features that shows image and no padding."""
    image_hw, valid_hw = view[2], view[3] if len(view) > 3 else None
    return valid_part(image_hw, valid_hw or image_hw, view[0][0].hw)
