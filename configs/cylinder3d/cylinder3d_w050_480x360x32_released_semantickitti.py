"""Cylinder3D 0.5x as released PVD checkpoints compute it, for tools/convert_weights.py and tests of what it writes."""

from mmengine.config import read_base

width, compressed_channels = 16, 16

with read_base():
    from .cylinder3d_w100_480x360x32_released_semantickitti import *
