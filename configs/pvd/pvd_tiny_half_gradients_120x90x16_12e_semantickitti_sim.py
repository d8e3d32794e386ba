"""Compared with PVD in the tiny pair: features weighted by gradients."""

from mmengine.config import read_base

# Channels of voxel_features: four times the width.
student_channels, teacher_channels = 16, 32

with read_base():
    from .._base_.distill.voxel_gradients import links as compared
    from .pvd_tiny_half_120x90x16_12e_semantickitti_sim import *

model.links = compared
del compared
