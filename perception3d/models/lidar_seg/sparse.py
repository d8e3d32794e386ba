"""Sparse convolutions on the voxels of a batch: those of spconv, with the keys, precision and checks that they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from spconv.pytorch import SparseConvTensor, SubMConv3d
from torch import Tensor, nn

from perception3d.compat.spconv_build import require_spconv_for
from perception3d.models.blocks.row_norms import FewRowsBatchNorm1d
from perception3d.models.lidar_seg.voxels import VoxelBatch

Kernel = tuple[int, int, int]


def sparse_tensor(features: Tensor, voxels: VoxelBatch) -> SparseConvTensor:
    """Returns the features (M, C) of the active voxels as spconv's tensor.

    Raises:
        InputError: the features are on a GPU, and the installed spconv has no kernels for it.
    """
    require_spconv_for(features.device)
    return SparseConvTensor(features.contiguous(), voxels.coords, list(voxels.grid_shape), voxels.batch_size)


@contextmanager
def sparse_precision(features: Tensor) -> Iterator[Tensor]:
    """Yields the features in the precision in which sparse convolutions run inside the block.

    That is float32: spconv knows no bfloat16 on a CPU, and few kernels for it on a GPU. Under float16 autocast on a GPU
    everything stays as it is, where spconv has its fastest kernels.
    """
    kind = features.device.type
    if kind == 'cuda' and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16:
        yield features
        return
    with torch.autocast(kind, enabled=False):
        yield features if features.dtype == torch.float64 else features.float()


def subm_key(level: int, kernel: Sequence[int]) -> str:
    """Returns the index key of submanifold convolutions: one list of pairs for each resolution and kernel shape.

    Convolutions of one resolution have the same active voxels. spconv 1 and mmcv did not compare kernels that share a
    key, see `legacy_shared_indices` of Cylinder3D.
    """
    return f'level{level}_{"x".join(map(str, kernel))}'


class SubmConvActNorm(nn.Module):
    """Submanifold convolution without bias, LeakyReLU, batch norm, in this order, on a SparseConvTensor.

    Args:
        in_channels, out_channels: channels.
        kernel: size along the three axes of the grid.
        level: resolution of the voxels, for the index key.
        norm_eps: of the batch norm.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Kernel, level: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.conv = SubMConv3d(in_channels, out_channels, kernel, bias=False, indice_key=subm_key(level, kernel))
        # The convolution does not keep its output: the activation may overwrite it.
        self.act = nn.LeakyReLU(inplace=True)
        self.norm = FewRowsBatchNorm1d(out_channels, eps=norm_eps)

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        """Returns the tensor of the same voxels."""
        x = self.conv(x)
        return x.replace_feature(self.norm(self.act(x.features)))


class SubmClassifier(nn.Module):
    """Submanifold convolution with bias: logits of the voxels of a SparseConvTensor.

    The bias is added apart, since spconv has no kernel for both on a CPU.

    Args:
        in_channels: channels.
        num_classes: K.
        level: resolution of the voxels, for the index key.
        kernel: size along the three axes of the grid.
    """

    def __init__(self, in_channels: int, num_classes: int, level: int = 0, kernel: Kernel = (3, 3, 3)) -> None:
        super().__init__()
        self.conv = SubMConv3d(in_channels, num_classes, kernel, bias=False, indice_key=subm_key(level, kernel))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, x: SparseConvTensor) -> Tensor:
        """Returns the logits (M, K)."""
        logits: Tensor = self.conv(x).features + self.bias
        return logits
