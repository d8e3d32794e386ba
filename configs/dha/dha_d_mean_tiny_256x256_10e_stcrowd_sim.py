"""Row (d) of DHA's grid for the built-in world: three heatmaps, whose logits are averaged."""

from mmengine.config import read_base

with read_base():
    from .dha_f_learned_tiny_256x256_10e_stcrowd_sim import *

model.bbox_head.parts.update(aggregation='mean')
