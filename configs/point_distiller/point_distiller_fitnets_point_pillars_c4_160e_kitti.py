"""Compared with PointDistiller on PointPillars c4: FitNets (hints) on the BEV map behind the neck."""

from mmengine.config import read_base

from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.losses.fitnets import FeatureMSE

with read_base():
    from .point_distiller_point_pillars_c4_160e_kitti import *

model.links = dict(
    hint=dict(
        student='neck[0]',
        teacher='neck[0]',
        adapter=dict(type=ConvAdapter, in_channels=192, out_channels=384),
        loss=dict(type=FeatureMSE),
    )
)
