"""Agnostic lane detection with ENet on small images of the built-in world in CULane's format."""

from mmengine.config import read_base

from perception3d.datasets.transforms.lane_instances import DrawLaneInstances

lr, max_epochs, val_interval = 3e-3, 10, 10
input_hw = [104, 488]
row_step = 4

with read_base():
    from .._base_.datasets.culane_sim import *
    from .._base_.models.lane_agnostic import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *

# Once the image has moved, before it is packed.
steps = train_dataloader.dataset.pipeline
steps.update(instances=dict(type=DrawLaneInstances, lane_width_px=lane_width_px), pack=steps.pop('pack'))
del steps
