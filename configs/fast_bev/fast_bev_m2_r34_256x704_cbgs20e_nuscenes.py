"""Fast-BEV M2: ResNet-34 and a deeper BEV encoder. Published: mAP 32.6, NDS 45.5."""

from mmengine.config import read_base

with read_base():
    from .fast_bev_m0_r18_256x704_cbgs20e_nuscenes import *

model.backbone.depth = 34
model.neck_3d.update(out_channels=224, num_layers=4)
model.bbox_head.in_channels = 224
