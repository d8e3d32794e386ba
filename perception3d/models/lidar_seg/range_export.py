"""RangePointNet as one ONNX file: from points and their pixels to a class for each point, with standard operators."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from perception3d.models.inference.acceleration import fold_batch_norms
from perception3d.models.lidar_seg.range_blocks import PixelsOfPoints, PointLayer
from perception3d.models.lidar_seg.range_partition import RangePartition, distances, nearest_points
from perception3d.structures.export_spec import ExportInput, ExportSpec

if TYPE_CHECKING:
    from perception3d.models.lidar_seg.range_point import RangePointNet

# Points of the cloud on which the file is compared with torch; the file takes any number.
_EXAMPLE_POINTS = 20_000


class RangePointNetwork(nn.Module):
    """The network for the points of one cloud: `forward(features, pixels, nearest)` to a tuple with the logits (P, K).

    Args:
        net: copied, its batch norms folded.
        shape: rows and columns of the range image.
        of_pixels: whether a point has the logits of its pixel instead of its own.
    """

    def __init__(self, net: RangePointNet, shape: tuple[int, int], of_pixels: bool) -> None:
        super().__init__()
        self.net = fold_batch_norms(copy.deepcopy(net).eval().requires_grad_(False))
        for part in self.net.modules():
            if isinstance(part, PointLayer):
                part.prepare_for_inference()
        self.size, self.of_pixels = (1, *shape), of_pixels

    def forward(self, features: Tensor, pixels: Tensor, nearest: Tensor) -> tuple[Tensor]:
        """Returns the logits; inputs as the specification describes them."""
        index = PixelsOfPoints.of(pixels, nearest, distances(features), self.size)
        stem, fused, points, encoded = self.net.backbone(features, index)
        of_pixels = self.net.pixel_features(stem, fused, pixels, self.size)
        if self.of_pixels:
            return (self.net.pixel_classifier(of_pixels),)
        return (self.net.classifier(self.net.point_features(points, encoded, of_pixels, None)),)


def range_point_spec(net: RangePointNet, partition: RangePartition, of_pixels: bool) -> ExportSpec:
    """Returns what goes into the ONNX file of a network and its range image.

    Args:
        net: the network.
        partition: how points get their pixels and features; columns behind x, y, z are random in the example.
        of_pixels: as of `RangePointNetwork`.
    """
    features, pixels, nearest = _example(partition)
    rows, columns = partition.image.shape
    which = ', '.join(f'column {column} of the points' for column in partition.columns)
    return ExportSpec(
        network=RangePointNetwork(net, (rows, columns), of_pixels).eval(),
        inputs=(
            ExportInput(
                'features',
                features,
                f'float32 x, y, z and distance of each point, metres{", then " if which else ""}{which}',
                {0: 'points'},
            ),
            ExportInput('pixels', pixels, f'int64 row * {columns} + column of each point', {0: 'points'}),
            ExportInput(
                'nearest', nearest, 'int64 for each pixel, row by row, its point with the least distance, -1 for none'
            ),
        ),
        outputs=('logits',),
        contains='the network from points, of any number, to the logits of each, with folded batch norms',
        before=f'the pixel of each point ({_rows_in_words(partition)}; {columns} columns from straight behind over the '
        'left, the front and the right), and the nearest point of each pixel: geometry/range_image.py',
        after='the class of a point is its largest logit',
    )


def _rows_in_words(partition: RangePartition) -> str:
    image = partition.image
    if partition.ring_column is not None:
        return f'row {image.shape[0] - 1} minus its ring'
    return f'{image.shape[0]} rows from {image.up_deg:g} down to {image.down_deg:g} degrees, clamped'


def _example(partition: RangePartition) -> tuple[Tensor, Tensor, Tensor]:
    """A cloud around the sensor, up to 50 m away, with several points in some pixels and none in others."""
    generator = torch.Generator().manual_seed(0)
    width = 1 + max([3, *partition.columns, partition.ring_column or 0])
    points = torch.rand(_EXAMPLE_POINTS, width, generator=generator)
    points[:, :3] = (points[:, :3] - 0.5) * torch.tensor([100.0, 100.0, 8.0])
    rows, columns = partition.image.shape
    if partition.ring_column is not None:
        points[:, partition.ring_column] = torch.randint(0, rows, (len(points),), generator=generator).float()
    cells, features = partition.cells_of(points)
    pixels = cells[:, 0] * columns + cells[:, 1]
    return features, pixels, nearest_points(distances(features), pixels, rows * columns)
