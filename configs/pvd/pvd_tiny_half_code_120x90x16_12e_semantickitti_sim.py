"""Compared with PVD in the tiny pair: knowledge adaptation (KA)."""

from mmengine.config import read_base

# Channels of voxel_features: four times the width.
student_channels, teacher_channels = 16, 32
# Of the 600 steps of the experiments.
autoencoder_steps = 100

with read_base():
    from .._base_.distill.voxel_code import links as compared
    from .pvd_tiny_half_120x90x16_12e_semantickitti_sim import *

compared.code.loss.supervoxels = supervoxels
model.links = compared
del compared
