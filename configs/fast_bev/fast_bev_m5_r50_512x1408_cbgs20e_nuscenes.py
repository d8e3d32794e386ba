"""Fast-BEV M5: M4 with images of 512 x 1408. Published: mAP 36.9, NDS 49.3."""

from mmengine.config import read_base

image_hw = (512, 1408)

with read_base():
    from .fast_bev_m4_r50_320x880_cbgs20e_nuscenes import *
