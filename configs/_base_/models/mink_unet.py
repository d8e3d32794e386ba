"""MinkUNet18 (arXiv 1904.08755) as SPVNAS has it: cubes of 5 cm, 21.7 M parameters, cross-entropy of voxels.

`channel_ratio` 0.5 and 0.64 are its smaller published widths. Points beyond the grid count as points of its border.
"""

from perception3d.models.lidar_seg.losses import WeightedCrossEntropy
from perception3d.models.lidar_seg.mink_unet import MinkUNet
from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor
from perception3d.models.lidar_seg.segmentor import PointSegmentor
from perception3d.models.lidar_seg.voxels import CubePartition

class_names = [
    'car', 'bicycle', 'motorcycle', 'truck', 'other-vehicle', 'person', 'bicyclist', 'motorcyclist', 'road',
    'parking', 'sidewalk', 'other-ground', 'building', 'fence', 'vegetation', 'trunk', 'terrain', 'pole',
    'traffic-sign',
]  # fmt: skip
voxel_size_m = 0.05
# Centres of the first and the last cubes.
grid_low_m = [-100, -100, -20]
grid_high_m = [100, 100, 20]
# Columns of a point that are features: its intensity.
point_columns = [3]
channel_ratio = 1.0

model = dict(
    type=PointSegmentor,
    data_preprocessor=dict(
        type=PointSegPreprocessor,
        partition=dict(
            type=CubePartition, voxel_size_m=voxel_size_m, low=grid_low_m, high=grid_high_m, columns=point_columns
        ),
    ),
    net=dict(
        type=MinkUNet,
        num_classes=len(class_names),
        in_channels=3 + len(point_columns),
        channel_ratio=channel_ratio,
    ),
    losses=dict(voxel_ce=dict(of='voxel', type=WeightedCrossEntropy)),
    predict_from='voxel',
)
