"""Row (d) of DHA's grid: three heatmaps, whose logits are averaged."""

from mmengine.config import read_base

with read_base():
    from .dha_f_learned_256x256_40e_stcrowd import *

model.bbox_head.parts.update(aggregation='mean')
