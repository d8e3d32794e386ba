"""BEVFormer-tiny: ResNet-50, its last stage alone, 50 x 50 pillars, three encoder layers."""

from mmdet.models import FPN, ResNet

from perception3d.models.bev_transformer.detector import BEVFormer
from perception3d.models.bev_transformer.encoder import BEVFormerEncoder
from perception3d.models.bev_transformer.head import BEVFormerHead
from perception3d.models.blocks.preprocessing import CameraDataPreprocessor

model = dict(
    type=BEVFormer,
    data_preprocessor=dict(
        type=CameraDataPreprocessor,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type=ResNet,
        depth=50,
        num_stages=4,
        out_indices=(3,),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
    ),
    neck=dict(
        type=FPN,
        in_channels=[2048],
        out_channels=256,
        start_level=0,
        add_extra_convs='on_output',
        num_outs=1,
        relu_before_extra_convs=True,
    ),
    encoder=dict(
        type=BEVFormerEncoder,
        grid=dict(range_m=(-51.2, -51.2, 51.2, 51.2), shape=(50, 50), heights_m=(-4.5, -13 / 6, 1 / 6, 2.5)),
        embed_dims=256,
        num_layers=3,
        num_levels=1,
    ),
    bbox_head=dict(type=BEVFormerHead, range_m=(-51.2, -51.2, -5.0, 51.2, 51.2, 3.0), num_classes=10, embed_dims=256),
)
