"""PointPillars on clouds of your own (data/README.md): the network and schedule of KITTI, 51.2 m to all sides.

The classes, the sizes of their anchors and the height of the ground are those of cars, people and cyclists around a
scanner 1.7 m above the road: set them in a config that reads this one. An anchor is as long, wide and high as a usual
object of its class, and the last number of its range is where the object's bottom lies.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.lidar_only import *
    from .._base_.models.point_pillars_secfpn import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle_pillars import *

voxel_size = [0.16, 0.16, 8]
point_cloud_range = [-51.2, -51.2, -5, 51.2, 51.2, 3]

# PointPillars of three classes does not move single objects.
del train_dataloader.dataset.dataset.pipeline[3]

model.data_preprocessor.voxel_layer.update(point_cloud_range=point_cloud_range, voxel_size=voxel_size)
model.voxel_encoder.update(in_channels=num_features, voxel_size=voxel_size, point_cloud_range=point_cloud_range)
model.middle_encoder.output_shape = [640, 640]
model.bbox_head.num_classes = len(class_names)
model.bbox_head.anchor_generator.ranges = [[-51.2, -51.2, -1.7, 51.2, 51.2, -1.7]] * len(class_names)
