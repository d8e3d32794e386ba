"""The head: box codes, matching, losses by hand, behaviour on empty and broken truth, and that it learns."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from bev_former_parts import boxes_of, make_sample
from mmdet3d.structures import LiDARInstance3DBoxes
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.bev_transformer.box_code import decode_boxes, encode_boxes
from perception3d.models.bev_transformer.head import BEVFormerHead
from perception3d.models.bev_transformer.matching import Truth, focal_cost, match

RANGE_M = (-16.0, -12.0, -3.0, 16.0, 12.0, 3.0)


def make_head(**settings) -> BEVFormerHead:
    torch.manual_seed(0)
    given = dict(
        range_m=RANGE_M, embed_dims=16, num_query=20, num_layers=2, num_heads=2, num_points=2,
        feedforward_channels=32, dropout=0.0, max_boxes=30,
    )  # fmt: skip
    return BEVFormerHead(**{**given, **settings})


def sample_of(boxes: Tensor):
    return make_sample(dict(box_type_3d=LiDARInstance3DBoxes), boxes)


def test_codes_by_hand() -> None:
    """A car of 4 x 2 x 1.5 m that points to +x; the old convention calls that -pi/2."""
    boxes = torch.tensor([[3.0, -2.0, -1.0, 4.0, 2.0, 1.5, 0.0, 5.0, 1.0]])
    expected = [3, -2, math.log(2), math.log(4), -0.25, math.log(1.5), math.sin(-math.pi / 2), 0, 5, 1]
    torch.testing.assert_close(encode_boxes(boxes)[0], torch.tensor(expected), atol=1e-6, rtol=0)


def test_codes_are_those_of_the_boxes_of_old_mmdet3d() -> None:
    boxes = boxes_of(50)
    legacy_yaw = -boxes[:, 6] - math.pi / 2
    codes = encode_boxes(boxes)
    torch.testing.assert_close(codes[:, 6], legacy_yaw.sin(), atol=1e-6, rtol=0)
    torch.testing.assert_close(codes[:, 7], legacy_yaw.cos(), atol=1e-6, rtol=0)
    # Old sizes are (w, l, h).
    torch.testing.assert_close(codes[:, [2, 3, 5]].exp(), boxes[:, [4, 3, 5]])


@pytest.mark.parametrize('yaw', [-3.1, -1.6, -0.4, 0.0, 0.8, 1.5, 3.1])
def test_boxes_come_back_from_their_codes(yaw: float) -> None:
    boxes = boxes_of(10)
    boxes[:, 6] = yaw
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes)), boxes, atol=1e-5, rtol=1e-5)


def test_wild_codes_are_finite_boxes_and_flat_boxes_finite_codes() -> None:
    assert decode_boxes(torch.full((1, 10), 1e4)).isfinite().all()
    flat = boxes_of(1)
    flat[:, 3:6] = 0
    assert encode_boxes(flat).isfinite().all()


def test_the_matching_is_the_best_of_all_matchings() -> None:
    torch.manual_seed(0)
    logits, codes = torch.randn(2, 1, 5, 3), torch.randn(2, 1, 5, 10) * 3
    truth = Truth(torch.randn(3, 10) * 3, torch.tensor([2, 0, 2]))
    truth.codes[1, 8:] = float('nan')
    found = match(logits, codes, [truth])
    assert found.objects == 3
    for layer in range(2):
        probability = logits[layer, 0].sigmoid()
        best, least = None, float('inf')
        for rows in itertools.permutations(range(5), 3):
            total = 0.0
            for column, row in enumerate(rows):
                p = float(probability[row, truth.labels[column]])
                focal = -0.25 * (1 - p) ** 2 * math.log(p) + 0.75 * p**2 * math.log(1 - p)
                distance = float((codes[layer, 0, row, :8] - truth.codes[column, :8]).abs().sum())
                total += 2 * focal + 0.25 * distance
            if total < least:
                best, least = rows, total
        labels = [3] * 5
        for column, row in enumerate(best):
            labels[row] = int(truth.labels[column])
            assert torch.equal(found.codes[layer, 0, row], truth.codes[column].nan_to_num(0.0))
            assert torch.equal(found.known[layer, 0, row], truth.codes[column].isfinite())
        assert found.labels[layer, 0].tolist() == labels
        assert not found.known[layer, 0][found.labels[layer, 0] == 3].any()


def test_the_focal_cost_of_a_sure_prediction() -> None:
    cost = focal_cost(torch.tensor([[20.0, -20.0]]), torch.tensor([0, 1]))
    assert cost[0, 0] < -10 and cost[0, 1] > 4


def test_more_objects_than_queries_and_outputs_that_are_not_numbers() -> None:
    codes = torch.full((1, 1, 2, 10), float('nan'))
    found = match(torch.zeros(1, 1, 2, 3), codes, [Truth(torch.randn(4, 10), torch.tensor([0, 1, 2, 0]))])
    assert found.objects == 2 and (found.labels < 3).all()


def test_losses_by_hand() -> None:
    head = make_head(num_layers=1)
    boxes = boxes_of(3)
    sample = sample_of(boxes)
    bev = torch.randn(1, 16, 8, 6)
    losses = head.loss(bev, [sample])
    logits, codes = head(bev)
    truth = head.read_truth(sample.gt_instances_3d, bev.device)
    found = match(logits, codes, [truth])
    wanted = torch.nn.functional.one_hot(found.labels[0, 0], 11)[:, :10].float()
    p = logits[0, 0].sigmoid()
    focal = -(0.25 * wanted * (1 - p) ** 2 * p.log() + 0.75 * (1 - wanted) * p**2 * (1 - p).log()).sum()
    torch.testing.assert_close(losses['loss_cls'], 2 * focal / 3, rtol=1e-4, atol=1e-5)
    gap = (codes[0, 0] - found.codes[0, 0]).abs() * torch.tensor([1.0] * 8 + [0.2] * 2)
    expected = 0.25 * gap[found.labels[0, 0] < 10].sum() / 3
    torch.testing.assert_close(losses['loss_bbox'], expected, rtol=1e-4, atol=1e-5)


def test_every_layer_has_its_losses_and_refines_without_gradients_through_boxes() -> None:
    head = make_head(num_layers=3)
    losses = head.loss(torch.randn(1, 16, 8, 6), [sample_of(boxes_of(3))])
    names = {f'{prefix}loss_{kind}' for prefix in ('', 'd0.', 'd1.') for kind in ('cls', 'bbox')}
    assert set(losses) == names
    # The second layer starts from the boxes of the first, but its loss does not reach the first's branch.
    losses['d1.loss_bbox'].backward()
    assert head.reg_branches[1][-1].weight.grad.abs().sum() > 0
    assert (head.reg_branches[0][-1].weight.grad == 0).all()


def test_centres_are_metres_inside_the_range_around_the_reference() -> None:
    head = make_head()
    with torch.no_grad():
        head.reg_branches[0][-1].weight.zero_()
        head.reg_branches[0][-1].bias.zero_()
    _, codes = head(torch.randn(1, 16, 8, 6))
    reference = head.reference_points(head.query_embedding.weight[:, :16]).sigmoid()
    low, high = torch.tensor(RANGE_M[:3]), torch.tensor(RANGE_M[3:])
    torch.testing.assert_close(codes[0, 0][:, [0, 1, 4]], low + reference * (high - low), rtol=1e-3, atol=1e-3)


def test_the_map_is_read_by_x_and_y() -> None:
    """Row y * X + x of what the decoder looks at is cell (x, y) of the map, and queries look at fractions (x, y)."""
    head, seen = make_head(), []
    head.layers[0].cross_attention.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    bev = torch.randn(2, 16, 8, 6)
    head(bev)
    assert torch.equal(seen[0]['value'][:, 4 * 8 + 7], bev[:, :, 7, 4])
    assert seen[0]['spatial_shapes'].tolist() == [[6, 8]]
    with torch.no_grad():
        head.layers[0].cross_attention.value_proj.weight.copy_(torch.eye(16))
        head.layers[0].cross_attention.output_proj.weight.copy_(torch.eye(16))
        head.layers[0].cross_attention.sampling_offsets.bias.zero_()
    # A query that looks at the middle of cell (5, 1) reads what is there.
    reference = torch.tensor([(5.5 / 8, 1.5 / 6)]).expand(2, 20, 2)
    zero = torch.zeros(2, 20, 16)
    value = bev.permute(0, 3, 2, 1).flatten(1, 2)
    read = head.layers[0].cross_attention(
        zero,
        value=value,
        reference_points=reference[:, :, None],
        spatial_shapes=torch.tensor([[6, 8]]),
        level_start_index=torch.tensor([0]),
    )
    torch.testing.assert_close(read[:, 0], bev[:, :, 5, 1])


@pytest.mark.parametrize('counts', [(0, 0), (0, 5)])
def test_empty_ground_truth_gives_finite_losses_and_gradients(counts: tuple[int, int]) -> None:
    head = make_head()
    bev = torch.randn(2, 16, 8, 6, requires_grad=True)
    losses = head.loss(bev, [sample_of(boxes_of(count)) for count in counts])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert bev.grad.isfinite().all() and bev.grad.abs().sum() > 0
    assert bool(losses['loss_bbox'] == 0) == (sum(counts) == 0)


def test_unknown_speeds_take_no_part_but_their_boxes_do() -> None:
    head, bev, boxes = make_head(), torch.randn(1, 16, 8, 6), boxes_of(4)
    known = head.loss(bev, [sample_of(boxes)])
    boxes[:, 7:] = float('nan')
    unknown = head.loss(bev, [sample_of(boxes)])
    assert 0 < unknown['loss_bbox'] < known['loss_bbox']
    torch.testing.assert_close(unknown['loss_cls'], known['loss_cls'])
    seven = make_sample(dict(box_type_3d=LiDARInstance3DBoxes), boxes)
    seven.gt_instances_3d.bboxes_3d = LiDARInstance3DBoxes(boxes[:, :7], box_dim=7)
    torch.testing.assert_close(head.loss(bev, [seven])['loss_bbox'], unknown['loss_bbox'])


def test_broken_boxes_are_left_out() -> None:
    head, bev, boxes = make_head(), torch.randn(1, 16, 8, 6), boxes_of(4)
    good = head.loss(bev, [sample_of(boxes)])
    broken = sample_of(torch.cat([boxes, boxes[:2]]))
    broken.gt_instances_3d.bboxes_3d.tensor[4, 0] = float('nan')
    broken.gt_instances_3d.labels_3d[5] = -1
    for name, loss in head.loss(bev, [broken]).items():
        torch.testing.assert_close(loss, good[name])


def test_predictions_are_the_best_pairs_of_query_and_class() -> None:
    head = make_head().eval()
    torch.nn.init.normal_(head.cls_branches[-1][-1].weight, std=0.5)
    bev = torch.randn(2, 16, 8, 6)
    samples = [sample_of(boxes_of(1))] * 2
    found = head.predict(bev, samples)
    logits, codes = head(bev)
    for i in range(2):
        order = logits[-1, i].flatten().argsort(descending=True)[:30]
        torch.testing.assert_close(found[i].scores_3d, logits[-1, i].flatten()[order].sigmoid())
        assert found[i].labels_3d.tolist() == (order % 10).tolist()
        torch.testing.assert_close(found[i].bboxes_3d.tensor, decode_boxes(codes[-1, i, order // 10]))
    twice = head.predict_passes([bev, bev], samples)
    torch.testing.assert_close(twice[0].scores_3d[::2], found[0].scores_3d[:15])


def test_training_the_head_alone_finds_the_boxes() -> None:
    head = make_head(num_query=8, num_layers=1, embed_dims=32)
    boxes = boxes_of(5, seed=3)
    sample = [sample_of(boxes)]
    bev = torch.randn(1, 32, 8, 6, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 160)
    for _ in range(160):
        optimizer.zero_grad()
        sum(head.loss(bev, sample).values()).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    found = head.eval().predict(bev, sample)[0]
    got = found.bboxes_3d.tensor[:5]
    gaps = torch.cdist(boxes[:, :3], got[:, :3])
    assert sorted(gaps.argmin(1).tolist()) == [0, 1, 2, 3, 4]
    assert gaps.amin(1).max() < 0.5
    best = gaps.argmin(1)
    assert found.labels_3d[:5][best].tolist() == [0, 1, 2, 3, 4]
    turn = torch.remainder(got[best, 6] - boxes[:, 6] + 1, 2 * torch.pi) - 1
    assert turn.abs().max() < 0.2
    assert (got[best, 3:6] - boxes[:, 3:6]).abs().max() < 0.5


def test_settings_and_maps_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match='10 numbers'):
        make_head(code_weights=(1.0, 1.0))
    with pytest.raises(InputError, match='4 numbers'):
        make_head(range_m=(-16.0, -12.0, 16.0, 12.0))
    with pytest.raises(InputError, match='8 channels'):
        make_head()(torch.zeros(1, 8, 4, 4))
