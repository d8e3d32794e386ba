"""PointPillars for nuScenes with widths 32, 64, 128: the 4x student of PointDistiller."""

from mmengine.config import read_base

with read_base():
    from .point_pillars_fpn_24e_nuscenes import *

model.pts_voxel_encoder.feat_channels = [32, 32]
model.pts_middle_encoder.in_channels = 32
model.pts_backbone.update(in_channels=32, out_channels=[32, 64, 128])
model.pts_neck.update(in_channels=[32, 64, 128], out_channels=128)
model.pts_bbox_head.update(in_channels=128, feat_channels=128)
