"""DHA-R on pillars: heatmaps at strides 2, 4 and 8 joined by density. What is the paper's: `models.crowd.head`."""

from mmdet.models.necks import FPN
from mmengine.config import read_base

with read_base():
    from .center_point_pillar_crowd import *

model.neck = dict(
    type=FPN,
    in_channels=[64, 128, 256],
    out_channels=128,
    num_outs=3,
    norm_cfg=dict(type='BN', eps=1e-3, momentum=0.01),
    act_cfg=dict(type='ReLU'),
)
model.bbox_head.update(
    in_channels=128,
    parts=dict(levels=3, aggregation='density', density=True, coarse=True),
    targets=dict(kernel='density', weighted=True),
)
