"""Cylinder3D 1.5x on SemanticKITTI: 125.5 M."""

from mmengine.config import read_base

width, compressed_channels = 48, 48

with read_base():
    from .cylinder3d_w100_480x360x32_40e_semantickitti import *
