"""DHA-R on pillars: heatmaps at strides 2, 4 and 8 joined by density. What is the paper's: `models.crowd.head`."""

from mmengine.config import read_base

from perception3d.models.crowd.neck import LevelPyramid

with read_base():
    from .center_point_pillar_crowd import *

model.neck = dict(type=LevelPyramid, in_channels=[64, 128, 256], out_channels=128)
model.bbox_head.update(
    in_channels=128,
    parts=dict(levels=3, aggregation='density', density=True, coarse=True),
    targets=dict(kernel='density', weighted=True),
)
