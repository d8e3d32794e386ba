"""Fast-BEV M0 from the current frame alone, as in CUDA-FastBEV. Published there: mAP 24.3 with float16."""

from mmengine.config import read_base

with read_base():
    from .fast_bev_m0_r18_256x704_cbgs20e_nuscenes import *

num_frames = 1
train_dataloader.dataset.dataset.num_frames = num_frames
val_dataloader.dataset.num_frames = num_frames
test_dataloader.dataset.num_frames = num_frames

model.neck_3d.fuse_channels = 64 * 4 * num_frames
