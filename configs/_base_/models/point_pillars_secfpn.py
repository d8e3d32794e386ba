"""PointPillars (Lang et al. 2019, arXiv 1812.05784) for KITTI's three classes, in the sizes of mmdet3d: 4.835 M."""

from mmdet.models.losses import CrossEntropyLoss, SmoothL1Loss
from mmdet3d.models.backbones import SECOND
from mmdet3d.models.detectors import VoxelNet
from mmdet3d.models.necks import SECONDFPN
from mmdet3d.models.task_modules import (
    AlignedAnchor3DRangeGenerator,
    DeltaXYZWLHRBBoxCoder,
    Max3DIoUAssigner,
)
from mmdet3d.structures.ops import BboxOverlapsNearest3D

from perception3d.models.lidar_det.anchor_head import FastAnchor3DHead
from perception3d.models.lidar_det.pillars import CompactPillarFeatureNet, RowPillarsScatter
from perception3d.models.lidar_det.preprocessor import LidarDataPreprocessor

voxel_size = [0.16, 0.16, 4]
point_cloud_range = [0, -39.68, -3, 69.12, 39.68, 1]
class_names = ['Pedestrian', 'Cyclist', 'Car']
# Floats of a point.
num_features = 4
# Of each class: length, width and height of its anchor, the height at which its bottom lies, and the overlaps in the
# plane from which on an anchor is positive and below which it is negative.
anchor_sizes = dict(Pedestrian=[0.8, 0.6, 1.73], Cyclist=[1.76, 0.6, 1.73], Car=[3.9, 1.6, 1.56])
anchor_bottoms_m = dict(Pedestrian=-0.6, Cyclist=-0.6, Car=-1.78)
anchor_overlaps = dict(Pedestrian=(0.5, 0.35), Cyclist=(0.5, 0.35), Car=(0.6, 0.45))

bottoms_m = [anchor_bottoms_m[name] for name in class_names]
# Rows and columns of the map of pillars.
map_shape = [round((point_cloud_range[axis + 3] - point_cloud_range[axis]) / voxel_size[axis]) for axis in (1, 0)]

model = dict(
    type=VoxelNet,
    data_preprocessor=dict(
        type=LidarDataPreprocessor,
        voxel=True,
        voxel_layer=dict(
            max_num_points=32,
            point_cloud_range=point_cloud_range,
            voxel_size=voxel_size,
            max_voxels=(16000, 40000),
        ),
    ),
    voxel_encoder=dict(
        type=CompactPillarFeatureNet,
        in_channels=num_features,
        feat_channels=[64],
        with_distance=False,
        voxel_size=voxel_size,
        point_cloud_range=point_cloud_range,
    ),
    middle_encoder=dict(type=RowPillarsScatter, in_channels=64, output_shape=map_shape),
    backbone=dict(
        type=SECOND, in_channels=64, layer_nums=[3, 5, 5], layer_strides=[2, 2, 2], out_channels=[64, 128, 256]
    ),
    neck=dict(type=SECONDFPN, in_channels=[64, 128, 256], upsample_strides=[1, 2, 4], out_channels=[128, 128, 128]),
    bbox_head=dict(
        type=FastAnchor3DHead,
        num_classes=len(class_names),
        in_channels=384,
        feat_channels=384,
        use_direction_classifier=True,
        assign_per_class=True,
        anchor_generator=dict(
            type=AlignedAnchor3DRangeGenerator,
            ranges=[[*point_cloud_range[:2], z, *point_cloud_range[3:5], z] for z in bottoms_m],
            sizes=[anchor_sizes[name] for name in class_names],
            rotations=[0, 1.57],
            reshape_out=False,
        ),
        diff_rad_by_sin=True,
        bbox_coder=dict(type=DeltaXYZWLHRBBoxCoder),
        # By name: the head compares this word to learn that focal loss needs no sampling of anchors.
        loss_cls=dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type=SmoothL1Loss, beta=1.0 / 9.0, loss_weight=2.0),
        loss_dir=dict(type=CrossEntropyLoss, use_sigmoid=False, loss_weight=0.2),
    ),
    train_cfg=dict(
        assigner=[
            dict(
                type=Max3DIoUAssigner,
                iou_calculator=dict(type=BboxOverlapsNearest3D),
                pos_iou_thr=positive,
                neg_iou_thr=negative,
                min_pos_iou=negative,
                ignore_iof_thr=-1,
            )
            for positive, negative in [anchor_overlaps[name] for name in class_names]
        ],
        allowed_border=0,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        use_rotate_nms=True,
        nms_across_levels=False,
        nms_thr=0.01,
        score_thr=0.1,
        min_bbox_size=0,
        nms_pre=100,
        max_num=50,
    ),
)
