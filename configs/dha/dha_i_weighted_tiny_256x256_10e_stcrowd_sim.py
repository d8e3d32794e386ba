"""Row (i) of DHA's grid for the built-in world: all but the coarse map of where people are."""

from mmengine.config import read_base

with read_base():
    from .dha_tiny_256x256_10e_stcrowd_sim import *

model.bbox_head.parts.update(coarse=False)
