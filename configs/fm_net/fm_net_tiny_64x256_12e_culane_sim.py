"""FM-Net: the steering angle with features that mimic those of two frozen networks, in the built-in world, small.

Give their weights with `--cfg-options model.teacher.segmentation.checkpoint=... model.teacher.depth.checkpoint=...`.
The plain config `fm_net_steering_tiny_64x256_12e_culane_sim.py` tests what the student has learned.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

base_channels = 16
teacher_channels, neck_channels = 32, 32

with read_base():
    from .._base_.distill.fm_net import *
    from .fm_net_scene_classes_tiny_64x256_12e_culane_sim import model as segmentation
    from .fm_net_scene_depth_tiny_64x256_12e_culane_sim import model as scene_depth
    from .fm_net_steering_tiny_64x256_12e_culane_sim import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=dict(
        segmentation=dict(network=copy.deepcopy(segmentation), checkpoint=None),
        depth=dict(network=copy.deepcopy(scene_depth), checkpoint=None),
    ),
    links=links,
)
del segmentation, scene_depth
