"""LiDAR detectors of the configs on a small map, and small clouds with a few objects for them."""

from __future__ import annotations

import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData

KITTI, NUSCENES = [0, 1, 2], [0, 1, 3, 5, 6, 8]  # of nuScenes one class of each task of CenterPoint
# One config of each detector: columns of a point, classes in the clouds, columns of a box.
DETECTORS = {
    'point_pillars_secfpn_160e_kitti': (4, KITTI, 7),
    'second_secfpn_80e_kitti': (4, KITTI, 7),
    'point_rcnn_160e_kitti': (4, KITTI, 7),
    'center_point_pillar_cyclic20e_nuscenes': (5, NUSCENES, 9),
    'center_point_voxel_cyclic20e_nuscenes': (5, NUSCENES, 9),
    'point_pillars_fpn_24e_nuscenes': (4, NUSCENES, 9),
}


def shrink(model, cells=128):
    """Leaves a map of `cells` x `cells` pillars, or twice as many voxels a side; the channels stay.

    PointRCNN, which has no map, is left fewer points and RoIs, and any overlap makes a RoI an object.
    """
    if 'voxel_layer' not in model.data_preprocessor:
        _shrink_points(model)
        return
    prefix = 'pts_' if 'pts_middle_encoder' in model else ''
    cells = cells if 'output_shape' in model[f'{prefix}middle_encoder'] else 2 * cells
    shrink_to(model, cells, cells)


def shrink_to(model, rows, columns):
    """Leaves a map of `rows` x `columns` pillars or voxels (y, x) in all that depends on it; the channels stay."""
    prefix = 'pts_' if 'pts_middle_encoder' in model else ''
    layer, middle = model.data_preprocessor.voxel_layer, model[f'{prefix}middle_encoder']
    head, size = model[f'{prefix}bbox_head'], layer.voxel_size
    low, high = (-5, 3) if prefix else (-3, 1)
    span = [0, -size[1] * rows / 2, low, size[0] * columns, size[1] * rows / 2, high]
    layer.update(point_cloud_range=span, max_voxels=(2000, 2000))
    if 'point_cloud_range' in model[f'{prefix}voxel_encoder']:
        model[f'{prefix}voxel_encoder'].point_cloud_range = span
    pillars = 'output_shape' in middle
    middle.update({'output_shape': [rows, columns]} if pillars else {'sparse_shape': [41, rows, columns]})
    if 'anchor_generator' in head:
        ranges = head.anchor_generator.ranges
        head.anchor_generator.ranges = [[*span[:2], own[2], *span[3:5], own[2]] for own in ranges]
    else:
        head.bbox_coder.update(pc_range=span[:2], max_num=50)
        model.test_cfg.pts.pc_range = span[:2]
        model.train_cfg.pts.update(point_cloud_range=span, grid_size=[columns, rows, model.train_cfg.pts.grid_size[2]])


def _shrink_points(model):
    model.backbone.num_points = (256, 64, 32, 16)
    model.train_cfg.rpn.rpn_proposal.nms_post = model.test_cfg.rpn.nms_cfg.nms_post = 16
    model.train_cfg.rcnn.sampler.num = 8
    for assigner in model.train_cfg.rcnn.assigner:
        assigner.update(pos_iou_thr=0.01, neg_iou_thr=0.01, min_pos_iou=0.01)
    model.roi_head.bbox_roi_extractor.roi_layer.num_sampled_points = 32
    model.roi_head.bbox_head.num_points = (8, 4, -1)


def clouds(features, labels, box_columns):
    """Two clouds of 1500 points x, y, z, ... with a box of 7 or 9 columns a label, not yet seen by a preprocessor."""
    generator = torch.Generator().manual_seed(0)
    inputs, samples = dict(points=[]), []
    boxes = torch.zeros(len(labels), box_columns)
    for k, box in enumerate(boxes):
        box[:7] = torch.tensor([5.0 - 3 * (k % 2), 1.0 - 2 * (k // 2), -1.7, 3.9, 1.6, 1.5, 0.3])
    for _ in range(2):
        low, high = torch.tensor([0.0, -4.0, -2.0]), torch.tensor([10.0, 4.0, 0.0])
        places = low + torch.rand(1500, 3, generator=generator) * (high - low)
        inputs['points'].append(torch.cat([places, torch.rand(1500, features - 3, generator=generator)], 1))
        truth = InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(boxes.clone(), box_dim=box_columns), labels_3d=torch.tensor(labels)
        )
        samples.append(Det3DDataSample(gt_instances_3d=truth, metainfo=dict(box_type_3d=LiDARInstance3DBoxes)))
    return dict(inputs=inputs, data_samples=samples)
