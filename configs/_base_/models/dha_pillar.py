"""DHA-R on pillars: heatmaps at strides 2, 4 and 8 joined by density. What is the paper's: `models.crowd.head`."""

from mmengine.config import read_base

from perception3d.models.crowd.neck import LevelPyramid

with read_base():
    from .center_point_pillar_crowd import *

model.neck = dict(type=LevelPyramid, in_channels=block_channels, out_channels=neck_channels)
model.bbox_head.in_channels = neck_channels
model.bbox_head.parts.update(levels=3, aggregation='density', density=True, coarse=True)
model.bbox_head.targets.update(kernel='density', weighted=True)
