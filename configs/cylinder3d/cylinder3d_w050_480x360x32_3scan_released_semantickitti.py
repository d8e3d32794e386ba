"""Cylinder3D 0.5x for several scans, as the released checkpoint `ms_0.5x_58_4`: for tools/convert_weights.py.

Its points have no age. The checkpoint has 26 outputs; the converter leaves out the first, of ignored points.
"""

from mmengine.config import read_base

point_columns = [3]
refine = False

with read_base():
    from .cylinder3d_w050_480x360x32_3scan_40e_semantickitti import *

model.net.legacy_shared_indices = True
