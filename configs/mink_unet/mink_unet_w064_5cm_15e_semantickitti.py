"""MinkUNet18 with 0.64 of its channels on SemanticKITTI: 8.8 M; SPVNAS reports 60.3 mIoU (val)."""

from mmengine.config import read_base

channel_ratio = 0.64

with read_base():
    from .mink_unet_w100_5cm_15e_semantickitti import *
