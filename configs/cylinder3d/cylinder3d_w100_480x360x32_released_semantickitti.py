"""Cylinder3D 1.0x as released checkpoints compute it, for tools/convert_weights.py and tests of what it writes.

Convolutions of different kernel shapes share index pairs in them (`legacy_shared_indices`), and they have no refinement
branch. For the original network, and that of mmdet3d, copy this file and add
`compressed_channels = 16` above the bases.
"""

from mmengine.config import read_base

refine = False

with read_base():
    from .cylinder3d_w100_480x360x32_40e_semantickitti import *

model.net.legacy_shared_indices = True
