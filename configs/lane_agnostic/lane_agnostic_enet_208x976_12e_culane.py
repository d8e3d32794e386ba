"""Agnostic lane detection with ENet on CULane, rows from 240 down at 976 x 208, by ERFNet's recipe; not published."""

from mmengine.config import read_base

from perception3d.datasets.transforms.lane_instances import DrawLaneInstances

scale_x, scale_y, rotate_deg = [1, 1], [1, 1], 3.0
batch_size = 20
lr = 0.2

with read_base():
    from .._base_.datasets.culane import *
    from .._base_.models.lane_agnostic import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *

# Once the image has moved, before it is packed.
steps = train_dataloader.dataset.pipeline
steps.update(instances=dict(type=DrawLaneInstances, lane_width_px=lane_width_px), pack=steps.pop('pack'))
del steps
