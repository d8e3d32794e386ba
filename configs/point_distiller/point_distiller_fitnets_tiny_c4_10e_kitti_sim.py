"""Compared with PointDistiller in the tiny pair: FitNets on the BEV map behind the neck."""

from mmengine.config import read_base

from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.losses.fitnets import FeatureMSE

with read_base():
    from .point_distiller_tiny_c4_10e_kitti_sim import *

model.links = dict(
    hint=dict(
        student='neck[0]',
        teacher='neck[0]',
        adapter=dict(type=ConvAdapter, in_channels=96, out_channels=192),
        loss=dict(type=FeatureMSE),
        weight=0.3,
        **timing,
    )
)
