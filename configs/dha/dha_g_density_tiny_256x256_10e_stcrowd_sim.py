"""Row (g) of DHA's grid for the built-in world: row (h) with CenterPoint's kernel."""

from mmengine.config import read_base

with read_base():
    from .dha_h_kernel_tiny_256x256_10e_stcrowd_sim import *

model.bbox_head.targets.update(kernel='fixed')
