"""PointPillars for nuScenes with widths 45, 91, 182: the 2x student of PointDistiller."""

from mmengine.config import read_base

with read_base():
    from .point_pillars_fpn_24e_nuscenes import *

model.pts_voxel_encoder.feat_channels = [45, 45]
model.pts_middle_encoder.in_channels = 45
model.pts_backbone.update(in_channels=45, out_channels=[45, 91, 182])
model.pts_neck.update(in_channels=[45, 91, 182], out_channels=182)
model.pts_bbox_head.update(in_channels=182, feat_channels=182)
