"""Compared on the resolution pair: Heatmap distillation with a soft teacher mask (SparseKD)."""

from mmengine.config import read_base

from perception3d.distill.losses.heatmap import HeatmapKD

with read_base():
    from .bev_distill_tiny_64x224_4e_sim import *

model.inherit = False
model.links = dict(
    heatmap=dict(student='bbox_head[0]', teacher='bbox_head[0]', loss=dict(type=HeatmapKD), weight=1.0, **timing)
)
