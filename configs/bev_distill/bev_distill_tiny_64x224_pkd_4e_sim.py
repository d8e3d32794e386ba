"""Compared on the resolution pair: PKD: Pearson correlation with the teacher's fused map."""

from mmengine.config import read_base

from perception3d.distill.losses.pearson import PearsonFeatureKD

with read_base():
    from .bev_distill_tiny_64x224_4e_sim import *

model.inherit = False
model.links = dict(
    pkd=dict(
        student='neck_3d',
        teacher='neck_3d',
        adapter=dict(type=ConvAdapter, in_channels=32, out_channels=32),
        loss=dict(type=PearsonFeatureKD),
        weight=1.0,
        **timing,
    )
)
