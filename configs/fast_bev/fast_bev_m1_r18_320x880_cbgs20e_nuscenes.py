"""Fast-BEV M1: M0 with larger images, 320 x 880. Published: mAP 29.5, NDS 42.1."""

from mmengine.config import read_base

with read_base():
    from .fast_bev_m0_r18_256x704_cbgs20e_nuscenes import *

image_hw = (320, 880)
train_dataloader.dataset.dataset.pipeline[1].final_hw = image_hw
val_dataloader.dataset.pipeline[1].final_hw = image_hw
test_dataloader.dataset.pipeline[1].final_hw = image_hw
