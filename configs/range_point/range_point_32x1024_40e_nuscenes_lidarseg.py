"""RangePointNet on nuScenes-lidarseg, 40 epochs: a row for each of the 32 lasers."""

from mmengine.config import read_base

class_names = [
    'barrier', 'bicycle', 'bus', 'car', 'construction_vehicle', 'motorcycle', 'pedestrian', 'traffic_cone',
    'trailer', 'truck', 'driveable_surface', 'other_flat', 'sidewalk', 'terrain', 'manmade', 'vegetation',
]  # fmt: skip
image_shape, field_of_view_deg, forward = [32, 1024], [10, -30], [0, 1]
ring_column = 4
averaging_momentum = 0.0002

with read_base():
    from .._base_.datasets.nuscenes_lidarseg import *
    from .._base_.models.range_point import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *

# The ring is the fifth of the stored columns.
for loader in (train_dataloader, val_dataloader):
    loader.dataset.pipeline.load.use_dim = 5
tta_pipeline.load.use_dim = 5
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file=test_ann_file))
del loader
