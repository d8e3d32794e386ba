"""SECOND with every width divided by 2: the 4x student of PointDistiller (depth unchanged)."""

from mmengine.config import read_base

with read_base():
    from .second_secfpn_80e_kitti import *

model.middle_encoder.update(
    base_channels=8,
    encoder_channels=((8,), (16, 16, 16), (32, 32, 32), (32, 32, 32)),
    output_channels=64,
)
model.backbone.update(in_channels=128, out_channels=[64, 128])
model.neck.update(in_channels=[64, 128], out_channels=[128, 128])
model.bbox_head.update(in_channels=256, feat_channels=256)
