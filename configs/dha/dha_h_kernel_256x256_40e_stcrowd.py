"""Row (h) of DHA's grid: row (i) without weights by the people around a cell."""

from mmengine.config import read_base

with read_base():
    from .dha_i_weighted_256x256_40e_stcrowd import *

model.bbox_head.targets.update(weighted=False)
