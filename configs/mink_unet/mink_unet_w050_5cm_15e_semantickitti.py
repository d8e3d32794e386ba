"""MinkUNet18 with 0.5 of its channels on SemanticKITTI: 5.4 M; SPVNAS reports 58.9 mIoU (val)."""

from mmengine.config import read_base

channel_ratio = 0.5

with read_base():
    from .mink_unet_w100_5cm_15e_semantickitti import *
