"""The tiny PointPillars with every width halved: a quarter of its size, the student of the tiny pair."""

from mmengine.config import read_base

with read_base():
    from .point_pillars_tiny_10e_kitti_sim import *

model.voxel_encoder.feat_channels = [16]
model.middle_encoder.in_channels = 16
model.backbone.update(in_channels=16, out_channels=[16, 32, 64])
model.neck.update(in_channels=[16, 32, 64], out_channels=[32, 32, 32])
model.bbox_head.update(in_channels=96, feat_channels=96)
