"""Fast-BEV M0: ResNet-18, 256 x 704. Published: mAP 27.7, NDS 41.1."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_camera import *
    from .._base_.models.fast_bev_r18 import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cbgs20e import *

# Channels * heights * frames.
model.neck_3d.fuse_channels = 64 * 4 * num_frames
