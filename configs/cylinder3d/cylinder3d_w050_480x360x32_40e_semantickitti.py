"""Cylinder3D 0.5x on SemanticKITTI: half the channels of all sparse convolutions, a quarter of their MACs. 14.1 M."""

from mmengine.config import read_base

width, compressed_channels = 16, 16

with read_base():
    from .cylinder3d_w100_480x360x32_40e_semantickitti import *
