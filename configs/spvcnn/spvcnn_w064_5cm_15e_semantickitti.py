"""SPVCNN with 0.64 of its channels on SemanticKITTI: 8.8 M; SPVNAS reports 61.4 mIoU (val)."""

from mmengine.config import read_base

channel_ratio = 0.64

with read_base():
    from .spvcnn_w100_5cm_15e_semantickitti import *
