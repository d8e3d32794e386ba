"""Row (g) of DHA's grid: row (h) with CenterPoint's kernel."""

from mmengine.config import read_base

with read_base():
    from .dha_h_kernel_256x256_40e_stcrowd import *

model.bbox_head.targets.update(kernel='fixed')
