"""Cylinder3D (arXiv 2011.10033): a point network, asymmetric sparse convolutions, and a branch that refines points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from spconv.pytorch import SparseConv3d, SparseConvTensor, SparseInverseConv3d, SubMConv3d
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.models.blocks.row_norms import FewRowsBatchNorm1d
from perception3d.models.lidar_seg.convert import convert_for
from perception3d.models.lidar_seg.segmentor import SegOutputs
from perception3d.models.lidar_seg.sparse import (
    Kernel,
    SubmClassifier,
    SubmConvActNorm,
    sparse_precision,
    sparse_tensor,
    subm_key,
)
from perception3d.models.lidar_seg.voxels import VoxelBatch
from perception3d.ops.grouping import group_max
from perception3d.registry import MODELS
from perception3d.structures.conversion import Conversion

# Kernels over rho, phi, z.
_ACROSS_PHI: Kernel = (1, 3, 3)
_ACROSS_RHO: Kernel = (3, 1, 3)
_FULL: Kernel = (3, 3, 3)
_STRIDES: tuple[Kernel, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 1), (2, 2, 1))


def kernels_in_use(kernels: Sequence[Kernel], legacy_shared_indices: bool) -> list[Kernel]:
    """Returns the kernels that convolutions with these kernels have: their own, or that of the first for all.

    The released code gives convolutions of a block one index key, and spconv 1 then takes the pairs of the first one.
    """
    return [kernels[0]] * len(kernels) if legacy_shared_indices else list(kernels)


class AsymmetricBlock(nn.Module):
    """Two branches of two asymmetric convolutions each, in opposite order, added up.

    Args:
        in_channels, out_channels: channels.
        kernels: of the first branch, in order; the second has them reversed.
        level: resolution, for the index keys.
        legacy: whether all convolutions have the first kernel.
        norm_eps: of the batch norms.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernels: tuple[Kernel, Kernel],
        level: int,
        legacy: bool,
        norm_eps: float,
    ) -> None:
        super().__init__()
        k = kernels_in_use([kernels[0], kernels[1], kernels[1], kernels[0]], legacy)
        self.first = nn.Sequential(
            SubmConvActNorm(in_channels, out_channels, k[0], level, norm_eps),
            SubmConvActNorm(out_channels, out_channels, k[1], level, norm_eps),
        )
        self.second = nn.Sequential(
            SubmConvActNorm(in_channels, out_channels, k[2], level, norm_eps),
            SubmConvActNorm(out_channels, out_channels, k[3], level, norm_eps),
        )

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        """Returns the tensor of the same voxels."""
        first = self.first(x)
        # spconv keeps the pairs that it lists in what comes out, where the other branch would not find them.
        x.indice_dict.update(first.indice_dict)
        second = self.second(x)
        return second.replace_feature(first.features + second.features)


class DownBlock(nn.Module):
    """An asymmetric block, whose output is the skip connection, then a convolution with a stride.

    Args:
        in_channels, out_channels: channels.
        level: resolution of the input.
        legacy, norm_eps: as of AsymmetricBlock.
    """

    def __init__(self, in_channels: int, out_channels: int, level: int, legacy: bool, norm_eps: float) -> None:
        super().__init__()
        kernels = (_ACROSS_RHO, _ACROSS_PHI)
        self.block = AsymmetricBlock(in_channels, out_channels, kernels, level, legacy, norm_eps)
        stride, key = _STRIDES[level], f'down{level}'
        self.pool = SparseConv3d(out_channels, out_channels, 3, stride, padding=1, bias=False, indice_key=key)

    def forward(self, x: SparseConvTensor) -> tuple[SparseConvTensor, SparseConvTensor]:
        """Returns the tensor of the next level, and the skip connection."""
        skip = self.block(x)
        return self.pool(skip), skip


class UpBlock(nn.Module):
    """Back to the voxels of a finer level, plus the skip connection, then three convolutions.

    Args:
        in_channels, out_channels: channels.
        level: resolution of the output.
        legacy, norm_eps: as of AsymmetricBlock.
    """

    def __init__(self, in_channels: int, out_channels: int, level: int, legacy: bool, norm_eps: float) -> None:
        super().__init__()
        self.before = SubmConvActNorm(in_channels, out_channels, _FULL, level + 1, norm_eps)
        self.up = SparseInverseConv3d(out_channels, out_channels, 3, bias=False, indice_key=f'down{level}')
        kernels = kernels_in_use([_ACROSS_PHI, _ACROSS_RHO, _FULL], legacy)
        self.after = nn.Sequential(*(SubmConvActNorm(out_channels, out_channels, k, level, norm_eps) for k in kernels))

    def forward(self, x: SparseConvTensor, skip: SparseConvTensor) -> SparseConvTensor:
        """Returns the tensor of the voxels of `skip`."""
        x = self.up(self.before(x))
        x = self.after(x.replace_feature(x.features + skip.features))
        return x


class ContextModule(nn.Module):
    """Dimension-decomposition context modelling (DDCM): three convolutions of rank 1, each a gate, summed, times input.

    Args:
        channels: of input and output.
        legacy, norm_eps: as of AsymmetricBlock.
    """

    def __init__(self, channels: int, legacy: bool, norm_eps: float) -> None:
        super().__init__()
        kernels = kernels_in_use([(3, 1, 1), (1, 3, 1), (1, 1, 3)], legacy)
        convs = [SubMConv3d(channels, channels, k, bias=False, indice_key=subm_key(0, k)) for k in kernels]
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(FewRowsBatchNorm1d(channels, eps=norm_eps) for _ in kernels)

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        """Returns the tensor of the same voxels."""
        gates = sum(torch.sigmoid(norm(conv(x).features)) for conv, norm in zip(self.convs, self.norms, strict=True))
        return x.replace_feature(gates * x.features)


class PointRefinement(nn.Module):
    """Point-wise refinement: features of a point's voxel, made as wide as those of the point and added to them.

    Never released by the authors; this is the form of OpenPCSeg. Points keep their order. The linear layer runs on
    voxels, before they are gathered by points, which is the same and has fewer rows.

    Args:
        voxel_channels, point_channels: channels.
        num_classes: K.
        norm_eps: of the batch norm.
    """

    def __init__(self, voxel_channels: int, point_channels: int, num_classes: int, norm_eps: float) -> None:
        super().__init__()
        self.linear = nn.Linear(voxel_channels, point_channels)
        self.norm = FewRowsBatchNorm1d(point_channels, eps=norm_eps)
        self.classifier = nn.Linear(point_channels, num_classes)

    def forward(self, voxel_features: Tensor, rows: Tensor, point_features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features (P, C) and logits (P, K) of points that lie in the voxels `rows` (P,)."""
        gathered = self.linear(voxel_features)[rows]
        features = F.leaky_relu(self.norm(gathered)) + point_features
        return features, self.classifier(features)


# mmdet3d registers its own segmentor as Cylinder3D.
@MODELS.register_module(name='Cylinder3DNet')
class Cylinder3D(nn.Module):
    """Cylinder3D on spconv: `net(voxels) -> SegOutputs`.

    A point network whose maximum over a voxel enters a U-Net of asymmetric sparse convolutions with four levels.
    `voxel_features` are the DDCM's output next to its input, 4 * `width` channels, which the voxel classifier reads.

    `width` 32 is the published network, 16 the 0.5x student of PVD, 48 its 1.5x network; with 20 outputs and without
    refinement 55.87 M (`compressed_channels` 32), 14.07 M (16) and 125.5 M parameters.

    Args:
        num_classes: K.
        point_features: features that the partition gives a point, F.
        point_channels: outputs of the point network.
        point_hidden: widths of its hidden layers.
        compressed_channels: channels of a voxel that enters the U-Net.
        width: channels of the first level, `init_size` of the released code.
        refine: whether there is a point branch: auxiliary supervision, and what distillation of points needs.
        legacy_shared_indices: compute what checkpoints of the released code and of mmdet3d compute. Their convolutions
            of different kernel shapes share index pairs, so that all of a block have the kernel of its first one: no
            context along phi or z alone. For `tools/convert_weights.py`; a training of your own leaves it off.
        norm_eps: of the batch norms between sparse convolutions. Under float16 take 6.2e-5, which ends NaN in spconv's
            own reports (traveller59/spconv #513).
    """

    def __init__(
        self,
        num_classes: int,
        point_features: int = 9,
        point_channels: int = 256,
        point_hidden: Sequence[int] = (64, 128, 256),
        compressed_channels: int = 16,
        width: int = 32,
        refine: bool = True,
        legacy_shared_indices: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.num_classes, self.legacy_shared_indices = num_classes, legacy_shared_indices
        legacy, eps = legacy_shared_indices, norm_eps
        self.point_mlp = _point_mlp(point_features, point_hidden, point_channels)
        self.compress = nn.Sequential(nn.Linear(point_channels, compressed_channels), nn.ReLU())
        kernels = (_ACROSS_PHI, _ACROSS_RHO)
        self.context = AsymmetricBlock(compressed_channels, width, kernels, 0, legacy, eps)
        widths = [width * 2**k for k in range(5)]
        self.down = nn.ModuleList(DownBlock(widths[k], widths[k + 1], k, legacy, eps) for k in range(4))
        # The deepest block keeps its channels, the others take twice what they give.
        self.up = nn.ModuleList(
            UpBlock(widths[min(k + 2, 4)], widths[k + 1], k, legacy, eps) for k in reversed(range(4))
        )
        self.ddcm = ContextModule(2 * width, legacy, eps)
        self.voxel_head = SubmClassifier(4 * width, num_classes)
        self.refine = PointRefinement(4 * width, point_channels, num_classes, eps) if refine else None

    def forward(self, voxels: VoxelBatch) -> SegOutputs:
        """Returns features and logits of voxels, and of points where there is a point branch."""
        points = self.point_mlp(voxels.features)
        pooled = self.compress(group_max(points, voxels.point_to_voxel, len(voxels.coords)))
        with sparse_precision(pooled) as features:
            x = self.context(sparse_tensor(features, voxels))
            skips = []
            for down in self.down:
                x, skip = down(x)
                skips.append(skip)
            for up in self.up:
                x = up(x, skips.pop())
            x = x.replace_feature(torch.cat([self.ddcm(x).features, x.features], 1))
            voxel_features, voxel_logits = x.features, self.voxel_head(x)
        if self.refine is None:
            return SegOutputs(voxel_features, voxel_logits)
        refined, point_logits = self.refine(voxel_features, voxels.point_to_voxel, points)
        return SegOutputs(voxel_features, voxel_logits, refined, point_logits)

    def convert_weights(self, state: Mapping[str, Tensor], kind: str | None = None) -> Conversion:
        """Fits a checkpoint of the released code or of mmdet3d to this network, see `convert.py`."""
        return convert_for(self, self.state_dict(), state, kind)


def _point_mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = [FewRowsBatchNorm1d(inputs)]
    widths = [inputs, *hidden]
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), FewRowsBatchNorm1d(b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
