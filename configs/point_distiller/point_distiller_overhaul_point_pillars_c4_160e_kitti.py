"""Compared with PointDistiller on PointPillars c4: feature overhaul on the three levels of the backbone."""

from mmengine.config import read_base

from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.losses.feature_overhaul import OverhaulKD

with read_base():
    from .point_distiller_point_pillars_c4_160e_kitti import *

model.links = dict(
    level0=dict(
        student='backbone[0]',
        teacher='backbone[0]',
        adapter=dict(type=ConvAdapter, in_channels=32, out_channels=64, norm=True),
        loss=dict(type=OverhaulKD),
    ),
    level1=dict(
        student='backbone[1]',
        teacher='backbone[1]',
        adapter=dict(type=ConvAdapter, in_channels=64, out_channels=128, norm=True),
        loss=dict(type=OverhaulKD),
    ),
    level2=dict(
        student='backbone[2]',
        teacher='backbone[2]',
        adapter=dict(type=ConvAdapter, in_channels=128, out_channels=256, norm=True),
        loss=dict(type=OverhaulKD),
    ),
)
