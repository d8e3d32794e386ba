"""The student of the small pair: the tiny Cylinder3D with half the channels of its sparse convolutions."""

from mmengine.config import read_base

width, compressed_channels = 4, 8

with read_base():
    from .cylinder3d_tiny_120x90x16_12e_semantickitti_sim import *
