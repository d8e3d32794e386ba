"""Compared with PointDistiller on PointPillars c4: attention transfer on the three levels of the backbone."""

from mmengine.config import read_base

from perception3d.distill.losses.attention_transfer import AttentionTransfer

with read_base():
    from .point_distiller_point_pillars_c4_160e_kitti import *

model.links = dict(
    level0=dict(student='backbone[0]', teacher='backbone[0]', loss=dict(type=AttentionTransfer)),
    level1=dict(student='backbone[1]', teacher='backbone[1]', loss=dict(type=AttentionTransfer)),
    level2=dict(student='backbone[2]', teacher='backbone[2]', loss=dict(type=AttentionTransfer)),
)
