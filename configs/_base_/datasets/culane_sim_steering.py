"""Images of the built-in world with the steering angle at their time, mirrored at random."""

from mmengine.config import read_base

from perception3d.evaluation.image_tasks import SteeringMetric

scale_x, scale_y, rotate_deg = [1, 1], [1, 1], 0.0

with read_base():
    from .culane_sim import *

train_dataloader.dataset.pipeline.load.with_mask = False
train_dataloader.dataset.pipeline.augment.flip_prob = 0.5
val_evaluator = dict(type=SteeringMetric)
test_evaluator = val_evaluator
