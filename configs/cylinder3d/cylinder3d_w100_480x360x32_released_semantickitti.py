"""Cylinder3D 1.0x as released checkpoints compute it, for tools/convert_weights.py and tests of what it writes.

Their convolutions share index pairs across kernel shapes, and there is no refinement branch; see
`legacy_shared_indices`. For the original network, and that of mmdet3d, copy this file and add
`compressed_channels = 16` above the bases.
"""

from mmengine.config import read_base

refine = False

with read_base():
    from .cylinder3d_w100_480x360x32_40e_semantickitti import *

model.net.legacy_shared_indices = True
