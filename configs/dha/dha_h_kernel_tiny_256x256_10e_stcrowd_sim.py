"""Row (h) of DHA's grid for the built-in world: row (i) without weights by the people around a cell."""

from mmengine.config import read_base

with read_base():
    from .dha_i_weighted_tiny_256x256_10e_stcrowd_sim import *

model.bbox_head.targets.update(weighted=False)
