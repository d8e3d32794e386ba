"""The tiny SECOND with every width halved: a quarter of its size, the student of the tiny pair."""

from mmengine.config import read_base

with read_base():
    from .second_tiny_10e_kitti_sim import *

model.middle_encoder.update(base_channels=4, encoder_channels=((4,), (8, 8, 8), (16, 16, 16)), output_channels=16)
model.backbone.update(in_channels=80, out_channels=[16, 32])
model.neck.update(in_channels=[16, 32], out_channels=[32, 32])
model.bbox_head.update(in_channels=64, feat_channels=64)
