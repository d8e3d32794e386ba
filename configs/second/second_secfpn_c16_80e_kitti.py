"""SECOND with every width divided by 4: the 16x student of PointDistiller (depth unchanged)."""

from mmengine.config import read_base

with read_base():
    from .second_secfpn_80e_kitti import *

model.middle_encoder.update(
    base_channels=4,
    encoder_channels=((4,), (8, 8, 8), (16, 16, 16), (16, 16, 16)),
    output_channels=32,
)
model.backbone.update(in_channels=64, out_channels=[32, 64])
model.neck.update(in_channels=[32, 64], out_channels=[64, 64])
model.bbox_head.update(in_channels=128, feat_channels=128)
