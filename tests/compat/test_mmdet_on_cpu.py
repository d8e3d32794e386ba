"""Functions and heads of mmdet and mmdet3d themselves on the CPU, whether mmcv has compiled ops or not."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor
from mmdet3d.models.dense_heads import Anchor3DHead
from mmdet3d.models.layers import box3d_multiclass_nms, nms_bev, nms_normal_bev
from mmdet3d.models.middle_encoders import PointPillarsScatter
from mmdet3d.models.roi_heads.roi_extractors import Single3DRoIAwareExtractor
from mmdet3d.models.voxel_encoders import PillarFeatureNet
from mmdet3d.structures import (
    CameraInstance3DBoxes,
    DepthInstance3DBoxes,
    Det3DDataSample,
    LiDARInstance3DBoxes,
    xywhr2xyxyr,
)
from mmengine import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from perception3d.compat import lidar_ops_on_cpu
from perception3d.compat.mmcv_ext import ops_are_compiled
from perception3d.registry import MODELS, TASK_UTILS

# x, y, z, l, w, h, yaw of one object seen three times, a crossing one, and one far away.
OBJECTS = torch.tensor(
    [
        [10.0, 2, -1, 4, 2, 1.5, 0.3],
        [10.1, 2, -1, 4, 2, 1.5, 0.3],
        [10.0, 2, -1, 4, 2, 1.5, 0.3 + math.pi],
        [10.0, 2, -1, 2, 4, 1.5, 0.3],
        [30.0, -5, -1, 4, 2, 1.5, -2.0],
    ]
)


@pytest.mark.parametrize('box_class', [LiDARInstance3DBoxes, DepthInstance3DBoxes, CameraInstance3DBoxes])
def test_boxes_overlap_as_their_volumes_do(box_class: type) -> None:
    boxes = box_class(
        OBJECTS[[0, 2, 3, 4]][:, [0, 2, 1, 3, 5, 4, 6]] if box_class is CameraInstance3DBoxes else OBJECTS[[0, 2, 3, 4]]
    )
    # The crossing one has a square of 2 x 2 m in common with the others: 4 of 8 + 8 - 4.
    wanted = torch.tensor([[1, 1, 1 / 3, 0], [1, 1, 1 / 3, 0], [1 / 3, 1 / 3, 1, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(box_class.overlaps(boxes, boxes), wanted, rtol=0, atol=1e-4)
    shared = torch.tensor([[1, 1, 0.5, 0], [1, 1, 0.5, 0], [0.5, 0.5, 1, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(box_class.overlaps(boxes, boxes, mode='iof'), shared, rtol=0, atol=1e-4)
    assert box_class.overlaps(boxes[:0], boxes).numel() == 0


def test_suppression_keeps_one_box_of_an_object() -> None:
    bev = xywhr2xyxyr(LiDARInstance3DBoxes(OBJECTS).bev)
    scores = torch.tensor([0.5, 0.9, 0.6, 0.7, 0.8])
    assert nms_bev(bev, scores, 0.2).tolist() == [1, 4]
    assert nms_bev(bev, scores, 0.5).tolist() == [1, 4, 3]
    assert nms_bev(bev, scores, 0.5, pre_max_size=2, post_max_size=1).tolist() == [1]
    # Without its yaw the crossing box covers the same third of its union with another.
    assert nms_normal_bev(bev, scores, 0.5).tolist() == [1, 4, 3]
    assert nms_normal_bev(bev, scores, 0.2).tolist() == [1, 4]
    by_class = torch.stack([scores, scores.flip(0), torch.zeros(5)], 1)
    for rotated in (True, False):
        settings = ConfigDict(use_rotate_nms=rotated, nms_thr=0.2)
        boxes, scores, labels, directions = box3d_multiclass_nms(
            OBJECTS, bev, by_class, 0.1, 10, settings, torch.arange(5)
        )
        assert scores.tolist() == pytest.approx([0.9, 0.8, 0.9, 0.5]) and labels.tolist() == [0, 0, 1, 1]
        assert directions.tolist() == [1, 4, 3, 4] and torch.equal(boxes, OBJECTS[directions])


def _lively(model: torch.nn.Module) -> torch.nn.Module:
    """The model for inference with weights by which scores and boxes differ from place to place."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def test_point_pillars_of_mmdet3d_finds_boxes_that_do_not_overlap() -> None:
    span = [0.0, -5.12, -3, 10.24, 5.12, 1]
    layer = dict(max_num_points=8, point_cloud_range=span, voxel_size=[0.32, 0.32, 4], max_voxels=(500, 500))
    coder = dict(type='DeltaXYZWLHRBBoxCoder')
    anchors = dict(
        type='Anchor3DRangeGenerator', ranges=[[*span[:2], -1.7, *span[3:5], -1.7]], sizes=[[3.9, 1.6, 1.5]],
        rotations=[0, 1.57], reshape_out=False,
    )  # fmt: skip
    test = dict(use_rotate_nms=True, nms_across_levels=False, nms_thr=0.05, score_thr=0.1, nms_pre=100, max_num=20)
    model = MODELS.build(
        dict(
            type='VoxelNet',
            data_preprocessor=dict(type=Det3DDataPreprocessor, voxel=True, voxel_layer=layer),
            voxel_encoder=dict(
                type=PillarFeatureNet, in_channels=4, feat_channels=[8], voxel_size=layer['voxel_size'],
                point_cloud_range=span,
            ),
            middle_encoder=dict(type=PointPillarsScatter, in_channels=8, output_shape=[32, 32]),
            backbone=dict(type='SECOND', in_channels=8, out_channels=[8], layer_nums=[1], layer_strides=[1]),
            neck=dict(type='SECONDFPN', in_channels=[8], out_channels=[8], upsample_strides=[1]),
            bbox_head=dict(
                type=Anchor3DHead, num_classes=1, in_channels=8, feat_channels=8, use_direction_classifier=True,
                anchor_generator=anchors, bbox_coder=coder,
            ),
            test_cfg=ConfigDict(test),
        )
    )  # fmt: skip
    points = torch.rand(400, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([10.24, 10.24, 3, 1])
    points -= torch.tensor([0, 5.12, 2.5, 0])
    batch = dict(inputs=dict(points=[points]), data_samples=[_sample3d()])
    with torch.no_grad():
        (predicted,) = _lively(model).test_step(batch)
    boxes = predicted.pred_instances_3d.bboxes_3d
    assert 1 < len(boxes) <= 20
    flat = LiDARInstance3DBoxes(
        boxes.tensor * torch.tensor([1, 1, 0, 1, 1, 0, 1]) + torch.tensor([0, 0, 0, 0, 0, 1, 0])
    )
    assert (LiDARInstance3DBoxes.overlaps(flat, flat) - torch.eye(len(boxes))).max() <= 0.05 + 1e-5


def _sample3d():
    return Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))


def test_center_point_of_mmdet3d_suppresses_rotated_boxes() -> None:
    head = MODELS.build(
        dict(
            type='CenterHead', in_channels=8, share_conv_channel=8, tasks=[dict(num_class=1, class_names=['car'])],
            common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
            bbox_coder=dict(
                type='CenterPointBBoxCoder', pc_range=[0, -4], max_num=30, score_threshold=0.1, code_size=9,
                out_size_factor=1, voxel_size=[0.5, 0.5], post_center_range=[-50, -50, -50, 50, 50, 50],
            ),
            separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3),
            test_cfg=dict(
                nms_type='rotate', post_center_limit_range=[-50, -50, -50, 50, 50, 50], score_threshold=0.1,
                nms_thr=0.2, pre_max_size=100, post_max_size=20, pc_range=[0, -4], out_size_factor=1,
                voxel_size=[0.5, 0.5],
            ),
        )
    )  # fmt: skip
    features = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = _lively(head)([features])
        (predicted,) = head.predict_by_feat(maps, [dict(box_type_3d=LiDARInstance3DBoxes)])
    boxes = predicted.bboxes_3d
    assert 1 < len(boxes) <= 20
    flat = boxes.tensor[:, :7] * torch.tensor([1, 1, 0, 1, 1, 0, 1]) + torch.tensor([0, 0, 0, 0, 0, 1, 0])
    flat = LiDARInstance3DBoxes(flat)
    assert (LiDARInstance3DBoxes.overlaps(flat, flat) - torch.eye(len(boxes))).max() <= 0.2 + 1e-5


@pytest.mark.parametrize('name', ['RetinaNet', 'FCOS'])
def test_image_detectors_of_mmdet_suppress_boxes(name: str) -> None:
    anchors = dict(
        type='mmdet.AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=[8, 16]
    )
    loss = dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True)
    heads = {
        'RetinaNet': dict(
            type='mmdet.RetinaHead', anchor_generator=anchors, bbox_coder=dict(type='mmdet.DeltaXYWHBBoxCoder'),
            loss_cls=loss, loss_bbox=dict(type='mmdet.L1Loss'),
        ),
        'FCOS': dict(
            type='mmdet.FCOSHead', strides=[8, 16], loss_cls=loss, loss_bbox=dict(type='mmdet.IoULoss'),
            loss_centerness=loss, bbox_coder=dict(type='mmdet.DistancePointBBoxCoder'),
            norm_cfg=dict(type='GN', num_groups=2, requires_grad=True),
            regress_ranges=((-1, 64), (64, 1e8)),
        ),
    }  # fmt: skip
    test = dict(nms_pre=100, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.3), max_per_img=25)
    head = MODELS.build(
        dict(
            num_classes=2,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            test_cfg=ConfigDict(test),
            **heads[name],
        )
    )
    generator = torch.Generator().manual_seed(0)
    maps = tuple(torch.randn(1, 8, size, size, generator=generator) for size in (12, 6))
    sample = DetDataSample(metainfo=dict(img_shape=(96, 96), scale_factor=(1.0, 1.0)))
    with torch.no_grad():
        (predicted,) = _lively(head).predict(maps, [sample])
    assert 3 < len(predicted.bboxes) <= 25 and (predicted.scores.diff() <= 0).all()
    for label in (0, 1):
        assert _highest_iou(predicted.bboxes[predicted.labels == label].double()) <= 0.3 + 1e-6


def _highest_iou(boxes: Tensor) -> float:
    low, high = torch.maximum(boxes[:, None, :2], boxes[:, :2]), torch.minimum(boxes[:, None, 2:], boxes[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    iou = both / (area[:, None] + area - both)
    return float(iou.fill_diagonal_(0).max()) if len(boxes) else 0.0


def test_the_roi_extractor_of_part_a2_pools_the_points_of_each_box() -> None:
    if ops_are_compiled():
        # mmcv has this kernel for CUDA alone.
        lidar_ops_on_cpu.install()
    layer = dict(type='RoIAwarePool3d', out_size=2, max_pts_per_voxel=16, mode='max')
    extractor = Single3DRoIAwareExtractor(layer)
    points = torch.tensor([[10.0, 2, -0.5], [10.0, 2, -0.4], [30.0, -5, -0.5], [0, 0, 0]])
    features = torch.tensor([[1.0], [4], [2], [9]], requires_grad=True)
    rois = torch.cat([torch.zeros(2, 1), OBJECTS[[0, 4]]], 1)
    pooled = extractor(features, points, torch.zeros(4), rois)
    assert pooled.shape == (2, 2, 2, 2, 1) and pooled.flatten(1).max(1)[0].tolist() == [4, 2]
    pooled.sum().backward()
    assert features.grad.flatten().tolist() == [0, 1, 1, 0]


def test_assigners_of_two_stages_take_rotated_overlaps() -> None:
    assigner = TASK_UTILS.build(
        dict(
            type='Max3DIoUAssigner', iou_calculator=dict(type='BboxOverlaps3D', coordinate='lidar'), pos_iou_thr=0.55,
            neg_iou_thr=0.55, min_pos_iou=0.55, ignore_iof_thr=-1,
        )
    )  # fmt: skip
    # As mmdet3d's RoI heads call it.
    proposals = InstanceData(priors=OBJECTS)
    truth = InstanceData(bboxes_3d=OBJECTS[[2, 4]], labels_3d=torch.tensor([0, 1]))
    assert assigner.assign(proposals, truth).gt_inds.tolist() == [1, 1, 1, 0, 2]
