"""Cylinder3D 1.5x as the released checkpoint `cyl_sem_1.5x_72_4` computes it, for tools/convert_weights.py.

48 compressed channels follow the other two released widths; the file was not at hand. The converter names the layer if
it has another number: set `compressed_channels` to that.
"""

from mmengine.config import read_base

width, compressed_channels = 48, 48

with read_base():
    from .cylinder3d_w100_480x360x32_released_semantickitti import *
