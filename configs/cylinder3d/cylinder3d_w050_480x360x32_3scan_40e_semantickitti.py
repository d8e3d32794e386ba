"""Cylinder3D 0.5x on SemanticKITTI's multi scan benchmark: three scans, 25 classes, the age of points as a feature.

The released multi scan network does not see the age of points: `point_columns = [3]` gives that.
"""

from mmengine.config import read_base

class_names = [
    'car', 'bicycle', 'motorcycle', 'truck', 'other-vehicle', 'person', 'bicyclist', 'motorcyclist', 'road',
    'parking', 'sidewalk', 'other-ground', 'building', 'fence', 'vegetation', 'trunk', 'terrain', 'pole',
    'traffic-sign', 'moving-car', 'moving-bicyclist', 'moving-person', 'moving-motorcyclist',
    'moving-other-vehicle', 'moving-truck',
]  # fmt: skip
point_columns = [3, 4]
width, compressed_channels = 16, 16
averaging_momentum = 0.0002

with read_base():
    from .._base_.datasets.semantickitti_multi_scan import *
    from .._base_.models.cylinder3d import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *

train_dataloader.batch_size = 2
