"""Multi-scale Fast-BEV (style v4): three image levels into three grids, ResNet-50, tested on mirrored images too.

Published as Fast-BEV-R50: mAP 33.4, NDS 47.3; with test-time augmentation and scale-NMS 34.6 and 47.7 (that the table
row means this config is an inference of ours).
"""

from mmengine.config import read_base

with read_base():
    from .fast_bev_m3_r34_256x704_cbgs20e_nuscenes import *

model.backbone.depth = 50
model.neck.in_channels = [256, 512, 1024, 2048]
model.neck_fuse.levels = [0, 1, 2]
model.grids = [dict(range_m=(-50, -50, -4, 50, 50, 2), shape=(n, n, 6)) for n in (200, 150, 100)]
model.neck_3d.update(fuse_channels=64 * 6 * num_frames * 3, in_channels=256, scaler='upsample')
model.flip_tta = True

optim_wrapper.optimizer.lr = 2e-4
