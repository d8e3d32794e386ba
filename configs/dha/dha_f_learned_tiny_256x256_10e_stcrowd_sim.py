"""Row (f) of DHA's grid for the built-in world: row (g) without density: three heatmaps with learned gates."""

from mmengine.config import read_base

with read_base():
    from .dha_g_density_tiny_256x256_10e_stcrowd_sim import *

model.bbox_head.parts.update(aggregation='learned', density=False)
