"""Row (f) of DHA's grid: row (g) without density: three heatmaps with learned gates."""

from mmengine.config import read_base

with read_base():
    from .dha_g_density_256x256_40e_stcrowd import *

model.bbox_head.parts.update(aggregation='learned', density=False)
