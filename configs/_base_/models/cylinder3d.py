"""Cylinder3D 1.0x of PVD (arXiv 2011.10033, 2206.02099) with a refinement branch: 55.9 M parameters without it.

The grid is SemanticKITTI's. `width` 16 halves all sparse convolutions, 48 is PVD's 1.5x.
"""

import math

from perception3d.models.lidar_seg.cylinder3d import Cylinder3D
from perception3d.models.lidar_seg.losses import LovaszSoftmax, WeightedCrossEntropy
from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor
from perception3d.models.lidar_seg.segmentor import PointSegmentor
from perception3d.models.lidar_seg.voxels import CylinderPartition

class_names = [
    'car', 'bicycle', 'motorcycle', 'truck', 'other-vehicle', 'person', 'bicyclist', 'motorcyclist', 'road',
    'parking', 'sidewalk', 'other-ground', 'building', 'fence', 'vegetation', 'trunk', 'terrain', 'pole',
    'traffic-sign',
]  # fmt: skip
# Cells along distance, azimuth and height. Points further, lower or higher count as points of the border.
grid_shape = [480, 360, 32]
max_distance_m = 50
height_range_m = [-4, 2]
# Columns of a point that are features: its intensity.
point_columns = [3]
width = 32
compressed_channels = 32
point_hidden = [64, 128, 256]
point_channels = 256
refine = True

model = dict(
    type=PointSegmentor,
    data_preprocessor=dict(
        type=PointSegPreprocessor,
        partition=dict(
            type=CylinderPartition,
            grid_shape=grid_shape,
            low=[0, -math.pi, height_range_m[0]],
            high=[max_distance_m, math.pi, height_range_m[1]],
            columns=point_columns,
        ),
    ),
    net=dict(
        type=Cylinder3D,
        num_classes=len(class_names),
        point_features=8 + len(point_columns),
        point_hidden=point_hidden,
        point_channels=point_channels,
        compressed_channels=compressed_channels,
        width=width,
        refine=refine,
    ),
    losses=dict(
        voxel_ce=dict(of='voxel', type=WeightedCrossEntropy),
        voxel_lovasz=dict(of='voxel', type=LovaszSoftmax),
    ),
    predict_from='voxel',
)
if refine:
    model['losses']['point_ce'] = dict(of='point', type=WeightedCrossEntropy)
