"""PointPillars with a feature pyramid for nuScenes' ten classes and velocities, in the sizes of mmdet3d."""

from mmdet.models.losses import CrossEntropyLoss, SmoothL1Loss
from mmdet.models.necks import FPN
from mmdet3d.models.backbones import SECOND
from mmdet3d.models.detectors import MVXFasterRCNN
from mmdet3d.models.task_modules import (
    AlignedAnchor3DRangeGenerator,
    DeltaXYZWLHRBBoxCoder,
    Max3DIoUAssigner,
)
from mmdet3d.models.voxel_encoders import HardVFE
from mmdet3d.structures.ops import BboxOverlapsNearest3D

from perception3d.models.lidar_det.anchor_head import FastAnchor3DHead
from perception3d.models.lidar_det.pillars import RowPillarsScatter
from perception3d.models.lidar_det.preprocessor import LidarDataPreprocessor

voxel_size = [0.25, 0.25, 8]
point_cloud_range = [-50, -50, -5, 50, 50, 3]

model = dict(
    type=MVXFasterRCNN,
    data_preprocessor=dict(
        type=LidarDataPreprocessor,
        voxel=True,
        voxel_layer=dict(
            max_num_points=64,
            point_cloud_range=point_cloud_range,
            voxel_size=voxel_size,
            max_voxels=(30000, 40000),
        ),
    ),
    pts_voxel_encoder=dict(
        type=HardVFE,
        in_channels=4,
        feat_channels=[64, 64],
        with_distance=False,
        voxel_size=voxel_size,
        with_cluster_center=True,
        with_voxel_center=True,
        point_cloud_range=point_cloud_range,
        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01),
    ),
    pts_middle_encoder=dict(type=RowPillarsScatter, in_channels=64, output_shape=[400, 400]),
    pts_backbone=dict(
        type=SECOND,
        in_channels=64,
        norm_cfg=dict(type='BN2d', eps=1e-3, momentum=0.01),
        layer_nums=[3, 5, 5],
        layer_strides=[2, 2, 2],
        out_channels=[64, 128, 256],
    ),
    pts_neck=dict(
        type=FPN,
        norm_cfg=dict(type='BN2d', eps=1e-3, momentum=0.01),
        act_cfg=dict(type='ReLU'),
        in_channels=[64, 128, 256],
        out_channels=256,
        start_level=0,
        num_outs=3,
    ),
    pts_bbox_head=dict(
        type=FastAnchor3DHead,
        num_classes=10,
        in_channels=256,
        feat_channels=256,
        use_direction_classifier=True,
        anchor_generator=dict(
            type=AlignedAnchor3DRangeGenerator,
            ranges=[[-50, -50, -1.8, 50, 50, -1.8]],
            scales=[1, 2, 4],
            # 1.5 and 1 over the square root of 3, then a square and what stands on a foot.
            sizes=[[2.5981, 0.8660, 1.0], [1.7321, 0.5774, 1.0], [1.0, 1.0, 1.0], [0.4, 0.4, 1]],
            custom_values=[0, 0],
            rotations=[0, 1.57],
            reshape_out=True,
        ),
        assigner_per_size=False,
        diff_rad_by_sin=True,
        dir_offset=-0.7854,
        bbox_coder=dict(type=DeltaXYZWLHRBBoxCoder, code_size=9),
        # By name: the head compares this word to learn that focal loss needs no sampling of anchors.
        loss_cls=dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type=SmoothL1Loss, beta=1.0 / 9.0, loss_weight=1.0),
        loss_dir=dict(type=CrossEntropyLoss, use_sigmoid=False, loss_weight=0.2),
    ),
    train_cfg=dict(
        pts=dict(
            assigner=dict(
                type=Max3DIoUAssigner,
                iou_calculator=dict(type=BboxOverlapsNearest3D),
                pos_iou_thr=0.6,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                ignore_iof_thr=-1,
            ),
            allowed_border=0,
            code_weight=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2],
            pos_weight=-1,
            debug=False,
        )
    ),
    test_cfg=dict(
        pts=dict(
            use_rotate_nms=True,
            nms_across_levels=False,
            nms_pre=1000,
            nms_thr=0.2,
            score_thr=0.05,
            min_bbox_size=0,
            max_num=500,
        )
    ),
)
