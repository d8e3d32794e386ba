"""A small cloud with labels, and a small Cylinder3D, for tests of LiDAR segmentation."""

from __future__ import annotations

import math

import torch
from mmdet3d.structures import Det3DDataSample, PointData

from perception3d.models.lidar_seg.cylinder3d import Cylinder3D
from perception3d.models.lidar_seg.losses import LovaszSoftmax, WeightedCrossEntropy
from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor
from perception3d.models.lidar_seg.segmentor import PointSegmentor
from perception3d.models.lidar_seg.voxels import CylinderPartition
from perception3d.structures.point_labels import IGNORE

GRID = (20, 18, 8)
CLASSES = 4


def cloud(count=300, seed=0):
    """Points (N, 4) within 12 m, some of them outside a grid that ends at 10 m."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 4, generator=generator)
    return points * torch.tensor([24.0, 24.0, 5.0, 1.0]) - torch.tensor([12.0, 12.0, 3.0, 0.0])


def labels(count=300, seed=0):
    """Classes 0..3, a fifth of them IGNORE."""
    values = torch.randint(0, CLASSES + 1, (count,), generator=torch.Generator().manual_seed(seed))
    return torch.where(values == CLASSES, IGNORE, values)


def partition(**settings):
    """The config of a small cylindrical grid."""
    return dict(
        type=CylinderPartition, grid_shape=GRID, low=(0, -math.pi, -3), high=(10, math.pi, 2), **settings
    )  # fmt: skip


def batch(counts=(300, 200), labelled=True):
    """A batch as a data loader gives it."""
    samples = []
    for k, count in enumerate(counts):
        sample = Det3DDataSample(metainfo={'lidar_path': f'scan_{k}.bin'})
        if labelled:
            sample.gt_pts_seg = PointData(pts_semantic_mask=labels(count, k))
        samples.append(sample)
    return {'inputs': {'points': [cloud(count, k) for k, count in enumerate(counts)]}, 'data_samples': samples}


def segmentor(losses=None, net=None, **settings):
    """A Cylinder3D of width 4 with the losses of the paper; `net` overrides settings of the network."""
    torch.manual_seed(0)
    small = dict(type=Cylinder3D, num_classes=CLASSES, width=4, point_channels=16, compressed_channels=8)
    return PointSegmentor(
        data_preprocessor=dict(type=PointSegPreprocessor, partition=partition()),
        net=small | (net or {}),
        losses=losses
        or dict(
            voxel_ce=dict(of='voxel', type=WeightedCrossEntropy),
            voxel_lovasz=dict(of='voxel', type=LovaszSoftmax, weight=0.5),
            point_ce=dict(of='point', type=WeightedCrossEntropy),
        ),
        **settings,
    )
