from __future__ import annotations

import copy

import pytest
import torch
from mmdet3d.models.dense_heads import Anchor3DHead
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from perception3d.compat import lidar_ops_on_cpu
from perception3d.models.lidar_det.anchor_head import FastAnchor3DHead

RANGE = [0, -8, -1.78, 16, 8, -1.78]


def _settings(**test):
    assigner = dict(
        type='Max3DIoUAssigner',
        iou_calculator=dict(type='BboxOverlapsNearest3D'),
        pos_iou_thr=0.6,
        neg_iou_thr=0.45,
        min_pos_iou=0.45,
        ignore_iof_thr=-1,
    )
    return dict(
        num_classes=2,
        in_channels=8,
        feat_channels=8,
        use_direction_classifier=True,
        assign_per_class=True,
        anchor_generator=dict(
            type='AlignedAnchor3DRangeGenerator',
            ranges=[RANGE, RANGE],
            sizes=[[0.8, 0.6, 1.73], [3.9, 1.6, 1.56]],
            rotations=[0, 1.57],
            reshape_out=False,
        ),
        diff_rad_by_sin=True,
        bbox_coder=dict(type='DeltaXYZWLHRBBoxCoder'),
        loss_cls=dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        train_cfg=ConfigDict(
            assigner=[copy.deepcopy(assigner) for _ in range(2)], allowed_border=0, pos_weight=-1, debug=False
        ),
        test_cfg=ConfigDict(
            {'use_rotate_nms': True, 'nms_thr': 0.1, 'score_thr': 0.3, 'nms_pre': 60, 'max_num': 30, **test}
        ),
    )


def _pair(**test):
    lidar_ops_on_cpu.install()
    torch.manual_seed(0)
    theirs, ours = Anchor3DHead(**_settings(**test)), FastAnchor3DHead(**_settings(**test))
    for part in (theirs.conv_cls, theirs.conv_reg, theirs.conv_dir_cls):
        torch.nn.init.normal_(part.weight, std=0.5)
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


METAS = [dict(box_type_3d=LiDARInstance3DBoxes)] * 2


@pytest.mark.parametrize('test', [{}, {'nms_pre': -1}, {'score_thr': 2.0}, {'max_num': 3}])
def test_boxes_equal_those_of_mmdet3d(test):
    theirs, ours = _pair(**test)
    x = [torch.randn(2, 8, 12, 10)]
    with torch.no_grad():
        wanted = theirs.predict_by_feat(*theirs(x), batch_input_metas=METAS)
        got = ours.predict_by_feat(*ours(x), batch_input_metas=METAS)
    assert test.get('score_thr') == 2.0 or all(len(result.scores_3d) for result in wanted)
    for a, b in zip(wanted, got, strict=True):
        assert torch.equal(a.labels_3d, b.labels_3d)
        assert torch.allclose(a.scores_3d, b.scores_3d, atol=1e-6)
        assert torch.allclose(a.bboxes_3d.tensor, b.bboxes_3d.tensor, atol=1e-5)


def test_the_loss_equals_that_of_mmdet3d_also_when_anchors_are_kept():
    theirs, ours = _pair()
    for seed in range(2):
        torch.manual_seed(seed)
        x = [torch.randn(1, 8, 12, 10)]
        boxes = torch.tensor([[8.0, 1.0, -1.7, 3.9, 1.6, 1.5, 0.1], [4.0, -3.0, -1.7, 0.8, 0.6, 1.7, 1.5]])
        truth = [InstanceData(bboxes_3d=LiDARInstance3DBoxes(boxes), labels_3d=torch.tensor([1, 0]))]
        wanted = theirs.loss_by_feat(*theirs(x), truth, METAS[:1])
        got = ours.loss_by_feat(*ours(x), truth, METAS[:1])
        for key, losses in wanted.items():
            assert all(torch.allclose(a, b) for a, b in zip(losses, got[key], strict=True)), key
            assert all(float(loss.detach()) > 0 for loss in losses), key


def test_anchors_are_made_once_a_size_and_are_no_part_of_a_copy():
    _, ours = _pair()
    first = ours.prior_generator.grid_anchors([(4, 5)], device='cpu')
    assert ours.prior_generator.grid_anchors([(4, 5)], device='cpu') is first
    assert ours.prior_generator.grid_anchors([(5, 4)], device='cpu') is not first
    twin = copy.deepcopy(ours)
    again = twin.prior_generator.grid_anchors([(4, 5)], device='cpu')
    assert again is not first and torch.equal(again[0], first[0])
    assert twin.prior_generator.num_base_anchors == ours.prior_generator.num_base_anchors


def _objects(count, seed):
    """Objects that often stand in each other's way, some at the same place, some across the border."""
    random = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 7, generator=random) * torch.tensor([18.0, 18, 1, 4, 2, 1, 6]) - torch.tensor(
        [1.0, 9, 2, -0.4, -0.4, -1, 3]
    )
    boxes[count // 2 :, :2] = boxes[: count - count // 2, :2]
    labels = torch.randint(0, 2, (count,), generator=random)
    return InstanceData(bboxes_3d=LiDARInstance3DBoxes(boxes), labels_3d=labels)


@pytest.mark.parametrize('per_class', [True, False])
@pytest.mark.parametrize(
    'change', [{}, {'neg_iou_thr': (0.1, 0.3)}, {'gt_max_assign_all': False}, {'min_pos_iou': 0.0}]
)
@pytest.mark.parametrize('one_assigner', [True, False])
@pytest.mark.parametrize('own_anchors', [True, False])
def test_targets_equal_those_of_mmdet3d(per_class, change, one_assigner, own_anchors):
    settings = _settings()
    settings.update(assign_per_class=per_class)
    for assigner in settings['train_cfg'].assigner:
        assigner.update(change)
    if one_assigner:
        settings['train_cfg'].assigner = settings['train_cfg'].assigner[0]
        settings['anchor_generator']['reshape_out'] = True
    theirs, ours = Anchor3DHead(**copy.deepcopy(settings)), FastAnchor3DHead(**settings)
    counts = (7, 0, 40)
    results = []
    for head in (theirs, ours):
        anchors = head.get_anchors([(24, 20)], METAS[:1] * 3, device='cpu')
        if own_anchors:
            anchors = [[level.clone() for level in anchors[0]]] * 3
        objects = [_objects(count, seed) for seed, count in enumerate(counts)]
        results.append(
            head.anchor_target_3d(anchors, objects, METAS[:1] * 3, [None] * 3, num_classes=2, sampling=False)
        )
        assert ours is not head or all(isinstance(item.bboxes_3d, LiDARInstance3DBoxes) for item in objects)
    for wanted, got in zip(*results, strict=True):
        if isinstance(wanted, int):
            assert wanted == got > 10
        else:
            assert torch.equal(wanted[0], got[0])
