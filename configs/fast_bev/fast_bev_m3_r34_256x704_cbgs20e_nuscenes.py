"""Fast-BEV M3: M2 with six voxels of height and a wider, deeper BEV encoder. Published: mAP 33.1, NDS 46.7."""

from mmengine.config import read_base

with read_base():
    from .fast_bev_m2_r34_256x704_cbgs20e_nuscenes import *

model.grids = [dict(range_m=(-50, -50, -4, 50, 50, 2), shape=(200, 200, 6))]
model.neck_3d.update(fuse_channels=64 * 6 * num_frames, in_channels=384, out_channels=256, num_layers=6)
model.bbox_head.in_channels = 256
