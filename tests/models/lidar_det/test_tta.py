from __future__ import annotations

import mmcv.ops
import numpy as np
import pytest
import torch
from mmdet3d.datasets.transforms import GlobalRotScaleTrans, RandomFlip3D
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmdet3d.structures.points import LiDARPoints
from mmengine.structures import InstanceData
from torch import nn

from perception3d.checks import InputError
from perception3d.models.lidar_det.tta import LidarTTAModel, undo_augmentation

BOXES = torch.tensor([[10.0, 2.0, -1.5, 3.9, 1.6, 1.5, 0.3], [20.0, -5.0, -1.6, 0.8, 0.6, 1.7, -2.0]])


@pytest.mark.parametrize(
    'steps',
    [
        [RandomFlip3D(sync_2d=False, flip_ratio_bev_horizontal=1.0)],
        [RandomFlip3D(sync_2d=False, flip_ratio_bev_horizontal=0.0, flip_ratio_bev_vertical=1.0)],
        [GlobalRotScaleTrans([0.4, 0.4], [1.1, 1.1], [0.5, 0.5, 0.1])],
        [
            RandomFlip3D(sync_2d=False, flip_ratio_bev_horizontal=1.0),
            GlobalRotScaleTrans([-0.7, -0.7], [0.9, 0.9], [0.2, 0.2, 0.2]),
        ],
        [
            GlobalRotScaleTrans([-0.7, -0.7], [0.9, 0.9]),
            RandomFlip3D(sync_2d=False, flip_ratio_bev_horizontal=1.0, flip_ratio_bev_vertical=1.0),
        ],
    ],
)
def test_what_mmdet3d_does_to_a_cloud_is_undone(steps):
    np.random.seed(0)
    sample = dict(points=LiDARPoints(torch.randn(5, 4), points_dim=4), gt_bboxes_3d=LiDARInstance3DBoxes(BOXES.clone()))
    for step in steps:
        sample = step(sample)
    moved = sample['gt_bboxes_3d']
    assert not torch.allclose(moved.tensor, BOXES, atol=0.05)
    back = undo_augmentation(moved, sample).tensor
    assert torch.allclose(back[:, :6], BOXES[:, :6], atol=1e-4)
    turn = back[:, 6] - BOXES[:, 6]
    assert torch.allclose(torch.cos(turn), torch.ones(2), atol=1e-5)
    assert not torch.equal(moved.tensor, back)


def test_an_unknown_step_is_an_error():
    with pytest.raises(InputError, match='unknown step'):
        undo_augmentation(LiDARInstance3DBoxes(BOXES.clone()), dict(transformation_3d_flow=['X']))


class _Net(nn.Module):
    def test_step(self, data):
        raise RuntimeError('merging asks for no prediction')


def _sample(boxes, scores, labels, **metainfo):
    instances = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes), scores_3d=torch.tensor(scores), labels_3d=torch.tensor(labels)
    )
    return Det3DDataSample(metainfo=metainfo, pred_instances_3d=instances)


def test_views_are_joined_and_doubles_are_dropped_class_by_class():
    mirrored = LiDARInstance3DBoxes(BOXES.clone())
    mirrored.flip('horizontal')
    other_class = BOXES[:1].clone()
    views = [
        _sample(torch.cat([BOXES, other_class]), [0.5, 0.8, 0.4], [2, 0, 1]),
        _sample(mirrored.tensor, [0.9, 0.3], [2, 0], transformation_3d_flow=['HF']),
    ]
    (merged,) = LidarTTAModel(_Net()).merge_preds([views])
    result = merged.pred_instances_3d
    assert result.scores_3d.tolist() == pytest.approx([0.9, 0.8, 0.4])
    assert result.labels_3d.tolist() == [2, 0, 1]
    assert torch.allclose(result.bboxes_3d.tensor[:, :6], BOXES[[0, 1, 0], :6], atol=1e-5)


@pytest.mark.parametrize('cuda', [False, True])
def test_views_without_boxes_are_no_boxes(monkeypatch, cuda):
    monkeypatch.setattr(torch.Tensor, 'is_cuda', property(lambda tensor: cuda))
    # What mmcv's op answers on a GPU.
    monkeypatch.setattr(mmcv.ops, 'nms_rotated', lambda dets, *args: (dets, None))
    empty = _sample(torch.zeros(0, 7), [], [])
    (merged,) = LidarTTAModel(_Net()).merge_preds([[empty, _sample(torch.zeros(0, 7), [], [])]])
    assert len(merged.pred_instances_3d.scores_3d) == 0
