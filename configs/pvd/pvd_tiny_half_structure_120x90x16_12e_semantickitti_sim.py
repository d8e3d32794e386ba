"""Compared with PVD in the tiny pair: structured distillation (SKD) without its GAN."""

from mmengine.config import read_base

with read_base():
    from .._base_.distill.voxel_structure import links as compared
    from .pvd_tiny_half_120x90x16_12e_semantickitti_sim import *

model.links = compared
del compared
