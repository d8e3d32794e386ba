"""Fast-BEV M1: M0 with larger images, 320 x 880. Published: mAP 29.5, NDS 42.1."""

from mmengine.config import read_base

image_hw = (320, 880)

with read_base():
    from .fast_bev_m0_r18_256x704_cbgs20e_nuscenes import *
