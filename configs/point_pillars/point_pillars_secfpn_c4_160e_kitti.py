"""PointPillars with every width divided by 2: the 4x student of PointDistiller (depth unchanged)."""

from mmengine.config import read_base

with read_base():
    from .point_pillars_secfpn_160e_kitti import *

model.voxel_encoder.feat_channels = [32]
model.middle_encoder.in_channels = 32
model.backbone.update(in_channels=32, out_channels=[32, 64, 128])
model.neck.update(in_channels=[32, 64, 128], out_channels=[64, 64, 64])
model.bbox_head.update(in_channels=192, feat_channels=192)
