"""Boxes of single slots of a head, and which of them agree with the ground truth."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from mmdet3d.models.dense_heads import Anchor3DHead
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from nets import gap, images, net

from perception3d.checks import InputError
from perception3d.distill.context import SecondPass
from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.pillar_response import PillarBoxKD
from perception3d.distill.losses.slot_boxes import BoxAgreement, agreeing_slots, slot_boxes
from perception3d.models.fast_bev.center_head import CenterBEVHead
from perception3d.models.fast_bev.free_anchor_head import FreeAnchorBEVHead

RANGE = (-8.0, -8.0, 8.0, 8.0)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def centre_head():
    return CenterBEVHead(4, RANGE, num_classes=2, hidden_channels=4)


def test_a_slot_of_a_centre_head_has_the_box_that_the_head_predicts():
    head, logits, codes = centre_head(), random(2, 2, 8, 6), random(2, 10, 8, 6, seed=1)
    boxes, _, _ = head.decode_outputs(logits, codes)
    heat = logits.sigmoid()
    peaks = heat * (torch.nn.functional.max_pool2d(heat, 3, 1, 1) == heat)
    index = peaks.flatten(1).topk(boxes.shape[1]).indices % 48
    torch.testing.assert_close(slot_boxes(head, codes, index), boxes)
    # Cell (3, 2) of 8 x 6 over 16 m: middle at -8 + 3.5 * 2 and -8 + 2.5 * 16 / 6.
    still = slot_boxes(head, torch.zeros(1, 10, 8, 6), torch.tensor([[3 * 6 + 2]]))
    torch.testing.assert_close(still[0, 0, :6], torch.tensor([-1.0, -8 + 2.5 * 16 / 6, -0.5, 1, 1, 1]))


def test_a_slot_of_the_free_anchor_head_has_the_box_that_the_head_predicts():
    anchors = dict(range_m=RANGE, sizes=((4.0, 2.0, 1.5), (1.0, 1.0, 1.0)), rotations=(0.0, 1.57))
    head = FreeAnchorBEVHead(in_channels=4, num_classes=2, anchors=anchors, max_candidates=40)
    bev = random(2, 4, 5, 3)
    with torch.no_grad():
        head.conv_reg.weight.normal_(std=0.3)
        head.conv_cls.weight.normal_()
        outputs = head(bev)
        boxes, scores = head.decode_outputs(outputs)
    # The head chooses among (anchor, x, y); the memory order of the maps is (anchor, y, x).
    best = outputs[0].transpose(2, 3).unflatten(1, (4, 2)).amax(2).flatten(1).topk(40).indices
    anchor, x, y = best // 15, best % 15 // 3, best % 3
    decoded = slot_boxes(head, outputs[1], (anchor * 3 + y) * 5 + x)
    torch.testing.assert_close(decoded[..., [0, 1, 2, 3, 4, 5, 7, 8]], boxes[..., [0, 1, 2, 3, 4, 5, 7, 8]])
    torch.testing.assert_close((decoded[..., 6] - boxes[..., 6]).sin(), torch.zeros(2, 40), atol=1e-4, rtol=0)


def anchor_head():
    return Anchor3DHead(
        num_classes=2,
        in_channels=4,
        feat_channels=4,
        anchor_generator=dict(
            type='Anchor3DRangeGenerator',
            ranges=[[0, -8, -1, 16, 8, -1], [0, -8, -0.5, 16, 8, -0.5]],
            sizes=[[4.0, 2.0, 1.5], [1.0, 1.0, 1.0]],
            rotations=[0, 1.57],
            reshape_out=False,
        ),
        bbox_coder=dict(type='DeltaXYZWLHRBBoxCoder'),
    )


def test_a_slot_of_an_anchor_head_is_that_of_mmdet3d():
    head, codes = anchor_head(), random(2, 4 * 7, 3, 5, seed=2) * 0.2
    anchors = head.prior_generator.grid_anchors([(3, 5)], device='cpu')[0].reshape(-1, 7)
    decoded = slot_boxes(head, codes, torch.arange(60).expand(2, 60))
    for sample in range(2):
        boxes = head.bbox_coder.decode(anchors, codes[sample].permute(1, 2, 0).reshape(-1, 7))  # cell by cell
        by_slot = boxes.view(3, 5, 4, 7).permute(2, 0, 1, 3).reshape(60, 7)
        torch.testing.assert_close(decoded[sample], by_slot)
    still = slot_boxes(head, torch.zeros(1, 28, 3, 5), torch.tensor([[(3 * 3 + 1) * 5 + 4]]))
    torch.testing.assert_close(still[0, 0], torch.tensor([16.0, 0, -0.5, 1, 1, 1, 1.57]))  # corners lie on the range


def test_a_head_that_cannot_decode_single_slots_is_named():
    with pytest.raises(InputError, match='Identity cannot decode.*min_iou=None'):
        slot_boxes(torch.nn.Identity(), torch.zeros(1, 7, 2, 2), torch.zeros(1, 1, dtype=torch.long))


def truth(*boxes):
    """A sample of (label, x, y, l, w)."""
    rows = torch.tensor([[x, y, -1.0, length, width, 1.5, 0.0] for _, x, y, length, width in boxes]).view(-1, 7)
    labels = torch.tensor([box[0] for box in boxes], dtype=torch.long)
    boxes = LiDARInstance3DBoxes(rows, box_dim=7)
    return SimpleNamespace(gt_instances_3d=InstanceData(bboxes_3d=boxes, labels_3d=labels))


def line_of_cars():
    """A centre head on 8 x 1 cells of 2 m, with boxes of 4 x 2 m at x = -7, -5, ... 7, y = 0, all confident."""
    head = CenterBEVHead(4, (-8.0, -1.0, 8.0, 1.0), num_classes=2, hidden_channels=4)
    codes = torch.zeros(1, 10, 8, 1)
    codes[0, 3], codes[0, 4], codes[0, 7] = math.log(4.0), math.log(2.0), 1.0
    return head, codes, torch.arange(0.9, 0.1, -0.1).view(1, 1, 8, 1), torch.zeros(1, 1, 8, 1, dtype=torch.long)


def test_boxes_that_contradict_the_ground_truth_are_left_out():
    head, codes, weights, classes = line_of_cars()

    def kept(*boxes, slots=8, reach=3.0):
        agreeing = agreeing_slots(weights, classes, codes, head, [truth(*boxes)], BoxAgreement(0.3, reach, slots))
        return agreeing.flatten().nonzero().flatten()

    # A car at x = 0: those at -1 and 1 overlap by 3 of 5 m, 0.6; at +-3 by 1 of 7, and +-5 are out of reach.
    assert kept((0, 0.0, 0.0, 4.0, 2.0)).tolist() == [0, 1, 3, 4, 6, 7]
    assert kept((0, 0.0, 0.0, 4.0, 2.0), reach=5.5).tolist() == [0, 3, 4, 7]
    # Ground truth of another class, or none, contradicts no box.
    assert kept((1, 0.0, 0.0, 4.0, 2.0)).tolist() == list(range(8))
    assert kept().tolist() == list(range(8))
    # One agreeing box is enough, whatever else is near: a pedestrian-sized car at -1, a car at -1.
    assert kept((0, -1.0, 0.0, 0.5, 0.5), reach=1.0).tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert kept((0, -1.0, 0.0, 0.5, 0.5), (0, -1.0, 0.0, 4.0, 2.0), reach=1.0).tolist() == list(range(8))
    # Only those with the largest weights are tested and stay.
    assert kept(slots=3).tolist() == [0, 1, 2]


def test_the_yaw_of_a_slot_counts():
    head, codes, weights, classes = line_of_cars()
    codes[0, 6], codes[0, 7] = 1.0, 0.0  # yaw 90 degrees: 2 m along x and 4 m along y
    agreement = BoxAgreement(0.95, 1.0, 8)
    left = agreeing_slots(weights, classes, codes, head, [truth((0, 1.0, 0.0, 2.0, 4.0))], agreement)
    assert left.flatten().nonzero().flatten().tolist() == list(range(8))
    along_x = agreeing_slots(weights, classes, codes, head, [truth((0, 1.0, 0.0, 4.0, 2.0))], agreement)
    assert along_x.flatten().nonzero().flatten().tolist() == [0, 1, 2, 3, 5, 6, 7]


def test_the_loss_ignores_disagreeing_slots_and_those_of_low_score():
    head, codes, _, _ = line_of_cars()
    student, logits = codes.clone(), torch.full((1, 2, 8, 1), -5.0)
    student[0, 2] = torch.arange(8.0)[:, None] + 1  # the error of slot i, by L1 above the kink, is i + 0.5
    logits[0, 0, 2:6] = torch.tensor([0.0, 1.0, 2.0, 3.0])[:, None]
    context = SimpleNamespace(
        teacher=dict(head=logits),
        teacher_modules={'bbox_head': SecondPass(head, has_gradient=False)},
        samples=[truth((0, -1.0, 0.0, 4.0, 2.0))],
    )
    s = torch.tensor([0.0, 1.0, 2.0, 3.0]).sigmoid()
    # The car at -1 is that of slot 3; slots 2 and 4 (2 m off) overlap by 1/3, slot 5 (4 m off) not at all.
    settings = dict(code_weights=(1.0,) * 10, reach_m=4.5)
    loss = PillarBoxKD('head', min_iou=0.3, **settings)(student, codes, context)
    assert float(loss) == pytest.approx(float((s[0] * 2.5 + s[1] * 3.5 + s[2] * 4.5) / s[:3].sum()), rel=1e-5)
    stricter = PillarBoxKD('head', min_iou=0.4, **settings)(student, codes, context)
    assert float(stricter) == pytest.approx(3.5, rel=1e-5)
    every = PillarBoxKD('head', **settings)(student, codes, context)
    assert float(every) == pytest.approx(float((s * torch.tensor([2.5, 3.5, 4.5, 5.5])).sum() / s.sum()), rel=1e-5)


def test_gradients_and_settings():
    head, codes, _, _ = line_of_cars()
    context = SimpleNamespace(
        teacher=dict(head=torch.zeros(1, 2, 8, 1, dtype=torch.float64)),
        teacher_modules={'bbox_head': SecondPass(head, has_gradient=False)},
        samples=[truth((0, -1.0, 0.0, 4.0, 2.0))],
    )
    loss, codes = PillarBoxKD('head', code_weights=(1.0,) * 10, min_iou=0.3).double(), codes.double()
    student = (codes + random(*codes.shape).double()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, codes, context), student)
    for wrong, message in ((dict(min_iou=0.0), 'IoU'), (dict(max_slots=0), 'one slot'), (dict(reach_m=0.0), 'reach_m')):
        with pytest.raises(InputError, match=message):
            PillarBoxKD('head', **wrong)


def test_a_head_that_the_teacher_does_not_have_is_named():
    links = dict(boxes=gap('head[1]'))
    links['boxes']['loss'] = dict(type=PillarBoxKD, teacher_logits='head[0]', code_weights=(1,) * 3, min_iou=0.3)
    with pytest.raises(InputError, match="'bbox_head'.*'head'"):
        Distiller(net(0), links, teacher=net(1)).loss(images(), [])
