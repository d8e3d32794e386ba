"""RangePointNet: 2D convolutions on the range image with a branch of points, which tells points of one pixel apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.blocks.row_norms import FewRowsBatchNorm1d
from perception3d.models.lidar_seg.range_blocks import (
    AttentiveFusion,
    ConvNormAct,
    ConvSENeXt,
    PixelsOfPoints,
    PointLayer,
    Size,
    coarser_pixels,
    pixel_rows,
)
from perception3d.models.lidar_seg.range_export import range_point_spec
from perception3d.models.lidar_seg.range_partition import RangePartition, distances, nearest_points
from perception3d.models.lidar_seg.segmentor import SegOutputs
from perception3d.models.lidar_seg.voxels import VoxelBatch
from perception3d.registry import MODELS
from perception3d.structures.export_spec import ExportSpec


class RangeStage(nn.Module):
    """One resolution: blocks on the map; the points read the map; the map reads the nearest point of each pixel.

    Args:
        in_channels, out_channels: of the map.
        point_channels: of the points.
        stride: of the map, down and across.
        blocks: number of Conv-SE-NeXt blocks.
        kernel: of their wide convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        point_channels: int,
        stride: tuple[int, int],
        blocks: int,
        kernel: int,
    ) -> None:
        super().__init__()
        first = ConvSENeXt(in_channels, out_channels, kernel, stride)
        rest = (ConvSENeXt(out_channels, out_channels, kernel) for _ in range(blocks - 1))
        self.blocks = nn.Sequential(first, *rest)
        self.points = PointLayer(point_channels, [out_channels], point_channels, residual=True)
        self.fusion = AttentiveFusion(out_channels, point_channels)

    def forward(self, x: Tensor, points: Tensor, index: PixelsOfPoints) -> tuple[Tensor, Tensor]:
        """Returns the map and the points (P, C); `index` is that of the resolution of the result."""
        x = self.blocks(x)
        points = self.points(points, (pixel_rows(x), index.pixels))
        return self.fusion(x, index.image_of(points)), points


@MODELS.register_module()
class RangePointNet(nn.Module):
    """Range-point network on the cells of a `RangePartition`: `net(voxels) -> SegOutputs`, a class for every point.

    In the class of HARP-NeXt (arXiv 2510.06876), FRNet (arXiv 2312.04484) and CENet (arXiv 2207.12691). From HARP-NeXt
    and FRNet: a point network whose compressed output makes the image, a stem of 3 x 3 convolutions, four stages of one
    resolution each in which points read the map and the map reads points, fusion by attention, maps of all stages
    fused at one resolution, and a head of points that adds the features of the first point network. From HARP-NeXt
    alone: the block (`ConvSENeXt`). From CENet: the nearest point makes the pixel, and pixels have a loss of their own.

    Ours: the nearest point makes the pixel at every resolution, where FRNet and HARP-NeXt take the maximum over its
    points (no scattering, and only operators that ONNX has in version 17); positions relative to the nearest point of
    the pixel instead of the mean of its points; widths that grow as the map shrinks, a residual of points, one
    convolution less in the attention, sums in place of concatenations where maps of all stages meet. There are no heads
    at the stages, and no boundary loss, as HARP-NeXt and CENet have them. With the defaults, 19 classes and a
    real scan in an image of 64 x 2048, it has 3.6 M parameters and 32 GMACs.

    `voxel_features` and `voxel_logits` are of pixels (their auxiliary loss), `point_features` and `point_logits` of
    points.

    Args:
        num_classes: K.
        in_features: features that the partition gives a point, F; the first three are x, y, z in metres.
        point_channels: C of the point branch.
        image_channels: of a pixel that enters the convolutions.
        stem_channels: of the map at full resolution.
        widths: channels of the stages.
        strides: of the stages, down and across.
        blocks: blocks of the stages.
        kernel: of the blocks.
        fused_channels: of the fused map, and of `voxel_features`.

    Raises:
        InputError: `widths`, `strides` and `blocks` are not of one length.
    """

    def __init__(
        self,
        num_classes: int,
        in_features: int = 5,
        point_channels: int = 64,
        image_channels: int = 16,
        stem_channels: int = 32,
        widths: Sequence[int] = (64, 128, 256, 256),
        strides: Sequence[Sequence[int]] = ((1, 2), (2, 2), (2, 2), (2, 2)),
        blocks: Sequence[int] = (1, 1, 1, 1),
        kernel: int = 7,
        fused_channels: int = 64,
    ) -> None:
        super().__init__()
        if not len(widths) == len(strides) == len(blocks) > 0:
            raise InputError(
                f'widths {list(widths)}, strides {list(strides)} and blocks {list(blocks)} have to be of one length, '
                'one entry for each stage'
            )
        self.num_classes, self.in_features = num_classes, in_features
        # Features, and x, y, z and distance relative to the nearest point of the pixel.
        self.input_norm = FewRowsBatchNorm1d(in_features + 4)
        self.encoder = nn.Sequential(
            PointLayer(in_features + 4, (), point_channels), PointLayer(point_channels, (), point_channels)
        )
        self.compress = nn.Linear(point_channels, image_channels)
        self.stem = nn.Sequential(
            ConvNormAct(image_channels + 1, stem_channels, 3), ConvNormAct(stem_channels, stem_channels, 3)
        )
        self.point_stem = PointLayer(point_channels, [stem_channels], point_channels, residual=True)
        self.stages = nn.ModuleList()
        self.laterals = nn.ModuleList()
        self.strides = [(int(down), int(across)) for down, across in strides]
        before = stem_channels
        for width, stride, count in zip(widths, self.strides, blocks):
            self.stages.append(RangeStage(before, width, point_channels, stride, count, kernel))
            self.laterals.append(nn.Conv2d(width, fused_channels, 1))
            before = width
        self.smooth = ConvNormAct(fused_channels, fused_channels, 3)
        self.pixel_head = PointLayer(stem_channels, [fused_channels], fused_channels)
        self.pixel_classifier = nn.Linear(fused_channels, num_classes)
        self.head_read = PointLayer(point_channels, [fused_channels], point_channels, residual=True)
        self.head = PointLayer(point_channels, (), point_channels)
        self.classifier = nn.Linear(point_channels, num_classes)

    def forward(self, voxels: VoxelBatch) -> SegOutputs:
        """Returns features and logits of pixels and of points.

        Raises:
            InputError: the partition gives another number of features, or is not a range image.
        """
        rows, columns, depth = voxels.grid_shape
        if depth != 1 or voxels.features.shape[1] != self.in_features:
            raise InputError(
                f'{type(self).__name__} reads range images with {self.in_features} features a point, but the partition '
                f'gives a grid of {voxels.grid_shape} with {voxels.features.shape[1]}: set partition to '
                'RangePartition, and in_features to 4 plus the number of its columns'
            )
        size = (voxels.batch_size, rows, columns)
        sample, row, column, _ = voxels.coords.long().unbind(1)
        occupied = (sample * rows + row) * columns + column
        pixels = occupied.index_select(0, voxels.point_to_voxel)
        distance = distances(voxels.features.float())
        nearest = nearest_points(distance, pixels, size[0] * rows * columns)
        index = PixelsOfPoints.of(pixels, nearest, distance, size)
        stem, fused, points, encoded = self.backbone(voxels.features, index)
        pixel_features = self.pixel_features(stem, fused, occupied, size)
        point_features = self.point_features(points, encoded, pixel_features, voxels.point_to_voxel)
        return SegOutputs(
            pixel_features, self.pixel_classifier(pixel_features), point_features, self.classifier(point_features)
        )

    def export_spec(self, partition: RangePartition, of_pixels: bool) -> ExportSpec:
        """Returns what goes into its ONNX file, see `range_point_spec`."""
        return range_point_spec(self, partition, of_pixels)

    def backbone(self, features: Tensor, index: PixelsOfPoints) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns stem map, fused map, and features (P, C) of the points after the stages and before the stem.

        Args:
            features: (P, F).
            index: of the full resolution.
        """
        nearest = index.nearest.flatten().index_select(0, index.pixels)
        offsets = features[:, :4] - features[:, :4].index_select(0, nearest)
        encoded = self.encoder(self.input_norm(torch.cat([features, offsets], 1)))
        image = torch.cat([index.image_of(F.relu(self.compress(encoded))), index.occupied()], 1)
        stem = self.stem(image.contiguous(memory_format=torch.channels_last))
        points = self.point_stem(encoded, (pixel_rows(stem), index.pixels))
        x, maps = stem, []
        for stage, lateral, stride in zip(self.stages, self.laterals, self.strides, strict=True):
            index = index.coarser(stride)
            x, points = stage(x, points, index)
            maps.append(lateral(x))
        fused = maps[0]
        for other in maps[1:]:
            fused = fused + F.interpolate(other, fused.shape[2:], mode='bilinear', align_corners=False)
        return stem, self.smooth(fused), points, encoded

    def pixel_features(self, stem: Tensor, fused: Tensor, pixels: Tensor, size: Size) -> Tensor:
        """Returns the features (M, C) of pixels (M,) of the full resolution, of `size`."""
        coarse, _ = coarser_pixels(pixels, size, self.strides[0])
        return self.pixel_head(pixel_rows(stem).index_select(0, pixels), (pixel_rows(fused), coarse))

    def point_features(self, points: Tensor, encoded: Tensor, pixel_features: Tensor, which: Tensor | None) -> Tensor:
        """Returns what the point classifier reads (P, C), from results of `backbone`, and pixel features of points.

        Args:
            points, encoded: (P, C).
            pixel_features: (M, C).
            which: (P,) int64, the pixel of each point; None: the features are of points already.
        """
        return self.head(self.head_read(points, (pixel_features, which))) + encoded
