"""The class of every pixel in the built-in world: a teacher of FM-Net."""

from mmengine.config import read_base

from perception3d.evaluation.image_tasks import PixelClassMetric
from perception3d.models.lane.pixel_tasks import ClassHead

crop_top_px, input_hw = 0, [208, 576]
batch_size, lr, max_epochs, val_interval = 8, 2e-3, 20, 20
teacher_channels, neck_channels = 64, 64
# Of extra/units.json.
num_scene_classes = 11

with read_base():
    from .._base_.datasets.culane_sim_pixels import *
    from .._base_.models.pixel_tasks import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *

model.head = dict(type=ClassHead, num_classes=num_scene_classes)
val_evaluator = dict(type=PixelClassMetric, num_classes=num_scene_classes)
test_evaluator = val_evaluator
