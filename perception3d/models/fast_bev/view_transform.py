"""From image features to a BEV feature map by lookup table and gather (Fast-BEV, arXiv 2301.12511, section 3.1).

The features are read channels-last, one row per pixel, and the rows are written in the order (x, y, z, frame, channel).
That memory *is* a channels-last map (B, Z*F*C, X, Y): collapsing the height axis and stacking the frames costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.geometry.grid import VoxelGrid
from perception3d.geometry.lut import PRIORITIES, build_frames_lut, build_lut, scale_to_features, valid_part
from perception3d.geometry.threads import PerThread, allocate_to_keep
from perception3d.ops.scatter import gather_rows, gather_rows_torch, scatter_add_rows


class GatherRows(torch.autograd.Function):
    """Rows of a table out of (R, C) features, with the scatter-add as gradient; see `perception3d.ops.scatter`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Tensor, out: Tensor | None) -> Tensor:
        """Returns (N, C), zeros where `table` (N,) is -1."""
        ctx.save_for_backward(table)
        ctx.num_rows, ctx.dtype = rows.shape[0], rows.dtype
        return gather_rows(rows, table, out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Returns the gradient of the rows, summed in float32."""
        (table,) = ctx.saved_tensors
        return scatter_add_rows(grad, table, ctx.num_rows).to(ctx.dtype), None, None


@dataclass
class FeatureRows:
    """The features of one pyramid level of many images, one row per pixel.

    `rows` is (R, C), `hw` the map's height and width, `first` (B, F, N) the row of the first pixel of every sample,
    frame and camera; two entries may share an image.
    """

    rows: Tensor
    hw: tuple[int, int]
    first: np.ndarray

    @classmethod
    def from_maps(cls, maps: Tensor, batch: int, frames: int) -> FeatureRows:
        """Wraps maps (B*F*N, C, H, W); free of a copy when they are channels-last."""
        images, channels, height, width = maps.shape
        first = np.arange(images, dtype=np.int64).reshape(batch, frames, -1) * (height * width)
        return cls(maps.permute(0, 2, 3, 1).reshape(-1, channels), (height, width), first)


class _Kept(PerThread):
    """What a lift keeps for the next one: tables, what they were made of, and the output memory."""

    def __init__(self) -> None:
        self.table: Tensor | None = None
        self.table_keys: dict[tuple[int, int], tuple] = {}
        self.out: Tensor | None = None


class LookupViewTransform(nn.Module):
    """Lifts image features into a voxel grid and lays it out as a BEV map.

    Outside of training, tables of frames whose projections have not changed are kept, and the output memory is used
    again by the next call of the same thread: take a copy of an output that has to outlive it.

    Args:
        grid: the voxels, or the arguments of `VoxelGrid`.
        priority: which camera wins where several see a voxel: 'last', 'first', or 'mean' of all of them.
    """

    def __init__(self, grid: VoxelGrid | dict, priority: str = 'last') -> None:
        super().__init__()
        if priority not in PRIORITIES:
            raise InputError(f'priority must be one of {", ".join(PRIORITIES)}, got {priority!r}')
        self.grid = grid if isinstance(grid, VoxelGrid) else VoxelGrid(**grid)
        self.priority = priority
        self._kept = _Kept()

    def forward(
        self,
        levels: list[FeatureRows],
        img_from_lidar: np.ndarray,
        image_hw: tuple[int, int],
        valid_hw: tuple[int, int] | None = None,
    ) -> Tensor:
        """Returns the BEV map (B, Z*L*F*C, X, Y) in channels-last memory; channel ((z*L + level)*F + frame)*C + c.

        Args:
            levels: L pyramid levels of the same B, F, N and C.
            img_from_lidar: (B, F, N, 3|4, 4) projections from lidar-frame metres to pixels of the network's input.
            image_hw: (H, W) of the network's input.
            valid_hw: (H, W) of the image in it, where it was padded.
        """
        valid_hw = valid_hw or image_hw
        rows = levels[0].rows if len(levels) == 1 else torch.cat([level.rows for level in levels])
        if self.priority == 'mean':
            lifted = self._lift_mean(rows, levels, img_from_lidar, image_hw, valid_hw)
        else:
            table = self.tables(levels, img_from_lidar, image_hw, valid_hw)
            lifted = self.gather(rows, table.view(-1))
        nx, ny, nz = self.grid.shape
        batch, frames = img_from_lidar.shape[:2]
        channels = nz * len(levels) * frames * rows.shape[1]
        return lifted.view(batch, nx, ny, channels).permute(0, 3, 1, 2)

    def gather(self, rows: Tensor, table: Tensor) -> Tensor:
        """Returns (N, C): the rows of `rows` (R, C) that `table` (N,) names, zeros where it is -1.

        Outside of training the memory of the result is used again by the next call of the same thread.
        """
        if torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
            return gather_rows_torch(rows, table)
        if self.training or torch.is_grad_enabled() or rows.is_cuda:
            return GatherRows.apply(rows, table, None)
        shape = (table.numel(), rows.shape[1])
        kept = self._kept
        if kept.out is None or kept.out.shape != shape or kept.out.dtype != rows.dtype:
            kept.out = allocate_to_keep(torch.empty, shape, dtype=rows.dtype, device=rows.device)
        return gather_rows(rows, table, kept.out)

    def forget_tables(self) -> None:
        """Makes the next call of this thread fill all its tables again."""
        self._kept.table_keys = {}

    def tables(
        self,
        levels: list[FeatureRows],
        img_from_lidar: np.ndarray,
        image_hw: tuple[int, int],
        valid_hw: tuple[int, int],
    ) -> Tensor:
        """Returns the interleaved tables (B, X, Y, Z, L*F) int32 of all levels and frames; arguments as of `forward`.

        An entry is the row of the joined levels that the voxel reads, or -1. Outside of training the next call of the
        same thread writes into the same memory.
        """
        device = levels[0].rows.device
        batch, frames = img_from_lidar.shape[:2]
        shape = (batch, *self.grid.shape, len(levels) * frames)
        keep = not self.training and not torch.is_grad_enabled()
        table, keys = self._kept.table, self._kept.table_keys
        if not keep or table is None or table.shape != shape or table.device != device:
            table, keys = allocate_to_keep(torch.empty, shape, dtype=torch.int32, device=device), {}
        for b, slot, projections, level, first in _slots(levels, img_from_lidar, image_hw):
            bounds = valid_part(image_hw, valid_hw, level.hw)
            wanted = {
                (b, slot + f): (projections[f].tobytes(), first[f].tobytes(), level.hw, bounds) for f in range(frames)
            }
            stale = [f for f in range(frames) if keys.get((b, slot + f)) != wanted[b, slot + f]]
            if stale:
                # One call for the whole span: it costs little more than one frame alone.
                span = slice(stale[0], stale[-1] + 1)
                matrices = torch.from_numpy(projections[span]).to(device, non_blocking=True)
                out = table[b, ..., slot : slot + frames][..., span]
                for f in range(*span.indices(frames)):
                    # No key until the table is complete: after an error the next call fills it again.
                    keys.pop((b, slot + f), None)
                build_frames_lut(matrices, self.grid, level.hw, self.priority, bounds, first[span], out)
                keys.update(wanted)
        if keep:
            self._kept.table, self._kept.table_keys = table, keys
        return table

    def _lift_mean(
        self,
        rows: Tensor,
        levels: list[FeatureRows],
        img_from_lidar: np.ndarray,
        image_hw: tuple[int, int],
        valid_hw: tuple[int, int],
    ) -> Tensor:
        """The rows (B*X*Y*Z*L*F, C), each the mean over the cameras that see the voxel."""
        batch, frames, cameras = img_from_lidar.shape[:3]
        shape = (batch, *self.grid.shape, len(levels) * frames, cameras)
        table = torch.full(shape, -1, dtype=torch.int32, device=rows.device)
        most = 1
        for b, slot, projections, level, first in _slots(levels, img_from_lidar, image_hw):
            area = level.hw[0] * level.hw[1]
            bounds = valid_part(image_hw, valid_hw, level.hw)
            for f in range(frames):
                matrices = torch.from_numpy(projections[f]).to(rows.device)
                lut = build_lut(matrices, self.grid, level.hw, 'mean', bounds)
                most = max(most, lut.shape[-1])
                starts = torch.from_numpy(first[f].astype(np.int32)).to(rows.device)
                moved = starts[lut.clamp(min=0) // area] + lut % area
                table[b, ..., slot + f, : lut.shape[-1]] = torch.where(lut < 0, -1, moved)
        table = table[..., :most].reshape(-1, most)
        seen = (table >= 0).sum(1, keepdim=True).clamp(min=1)
        gathered = GatherRows.apply(rows, table.reshape(-1), None).view(-1, most, rows.shape[1])
        return gathered.sum(1) / seen.to(rows.dtype)


def _slots(
    levels: list[FeatureRows], img_from_lidar: np.ndarray, image_hw: tuple[int, int]
) -> Iterator[tuple[int, int, np.ndarray, FeatureRows, np.ndarray]]:
    """Walks samples and levels: (sample, first slot, (F, N, 3, 4) projections, level, (F, N) first rows)."""
    batch, frames = img_from_lidar.shape[:2]
    offset = 0
    for number, level in enumerate(levels):
        projections = scale_to_features(img_from_lidar, image_hw, level.hw)
        for b in range(batch):
            yield b, number * frames, projections[b], level, level.first[b] + offset
        offset += level.rows.shape[0]
