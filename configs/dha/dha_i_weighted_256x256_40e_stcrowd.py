"""Row (i) of DHA's grid: all but the coarse map of where people are."""

from mmengine.config import read_base

with read_base():
    from .dha_pillar_256x256_40e_stcrowd import *

model.bbox_head.parts.update(coarse=False)
