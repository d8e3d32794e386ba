"""Compared on the resolution pair: FitNets: plain imitation of the fused map through an adapter."""

from mmengine.config import read_base

from perception3d.distill.losses.fitnets import FeatureMSE

with read_base():
    from .bev_distill_tiny_64x224_4e_sim import *

model.inherit = False
model.links = dict(
    fitnets=dict(
        student='neck_3d',
        teacher='neck_3d',
        adapter=dict(type=ConvAdapter, in_channels=32, out_channels=32),
        loss=dict(type=FeatureMSE),
        weight=1.0,
        **timing,
    )
)
