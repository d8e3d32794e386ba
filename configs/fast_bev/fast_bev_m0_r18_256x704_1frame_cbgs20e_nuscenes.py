"""Fast-BEV M0 from the current frame alone, as in CUDA-FastBEV. Published there: mAP 24.3 with float16."""

from mmengine.config import read_base

num_frames = 1

with read_base():
    from .fast_bev_m0_r18_256x704_cbgs20e_nuscenes import *
