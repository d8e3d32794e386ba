"""Fast-BEV M0: ResNet-18, one lifted level (/4), one grid of 200 x 200 x 4 voxels, four frames."""

from mmdet.models import FPN, ResNet

from perception3d.models.blocks.preprocessing import CameraDataPreprocessor
from perception3d.models.fast_bev.detector import FastBEV
from perception3d.models.fast_bev.free_anchor_head import FreeAnchorBEVHead
from perception3d.models.fast_bev.necks import M2BEVNeck, PyramidFuse

model = dict(
    type=FastBEV,
    data_preprocessor=dict(
        type=CameraDataPreprocessor,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type=ResNet,
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        style='pytorch',
    ),
    neck=dict(
        type=FPN, in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4, norm_cfg=dict(type='BN'), act_cfg=None
    ),
    neck_fuse=dict(type=PyramidFuse, levels=[0], num_levels=4, in_channels=64, out_channels=64),
    grids=[dict(range_m=(-50, -50, -4, 50, 50, 2), shape=(200, 200, 4))],
    priority='last',
    neck_3d=dict(
        type=M2BEVNeck,
        # channels * heights * frames
        fuse_channels=64 * 4 * 4,
        in_channels=256,
        out_channels=192,
        num_layers=2,
        norm_cfg=dict(type='BN'),
    ),
    bbox_head=dict(type=FreeAnchorBEVHead, num_classes=10, in_channels=192),
)
