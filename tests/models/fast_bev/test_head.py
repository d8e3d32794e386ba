"""The FreeAnchor head against a slow head in the released convention, and its behaviour on bad input."""

from __future__ import annotations

import math

import pytest
import torch
from legacy_head import LegacyHead, make_anchors, nearest_rectangles, rectangle_iou, to_legacy
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.fast_bev import assign
from perception3d.models.fast_bev.convert import regression_between_conventions
from perception3d.models.fast_bev.free_anchor_head import FreeAnchorBEVHead
from perception3d.models.fast_bev.losses import negative_loss
from perception3d.models.fast_bev.necks import M2BEVNeck
from perception3d.models.heads.targets import gather_targets

RANGE_M = (-12.0, -9.0, 12.0, 9.0)
SHAPE = (24, 18)
CHANNELS = 6


def make_head(range_m: tuple = RANGE_M, seed: int = 0, spread: float = 0.3, **kwargs) -> FreeAnchorBEVHead:
    torch.manual_seed(seed)
    head = FreeAnchorBEVHead(in_channels=CHANNELS, anchors=dict(range_m=range_m), **kwargs)
    for conv in (head.conv_cls, head.conv_reg, head.conv_dir_cls):
        torch.nn.init.normal_(conv.weight, std=spread)
        torch.nn.init.normal_(conv.bias, std=spread)
    return head


def legacy_twin(head: FreeAnchorBEVHead) -> LegacyHead:
    """The slow head with the weights that a released checkpoint of `head` would hold."""
    state = {name: value.detach().clone() for name, value in head.state_dict().items()}
    for kind in ('weight', 'bias'):
        codes = state[f'conv_reg.{kind}'].unflatten(0, (8, 9)).clone()
        codes[:, 3], codes[:, 4] = codes[:, 4].clone(), codes[:, 3].clone()
        codes[:, 6] = -codes[:, 6]
        state[f'conv_reg.{kind}'] = codes.flatten(0, 1)
    return LegacyHead(state, head.grid.range_m, head.num_classes)


def random_truth(count: int, seed: int, range_m: tuple = RANGE_M) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 9, generator=generator)
    low, size = torch.tensor(range_m[:2]), torch.tensor(range_m[2:]) - torch.tensor(range_m[:2])
    boxes[:, :2] = low + boxes[:, :2] * size
    boxes[:, 2] = -2 + boxes[:, 2]
    boxes[:, 3:6] = 0.4 + boxes[:, 3:6] * torch.tensor([4.0, 1.8, 1.5])
    boxes[:, 6] = (boxes[:, 6] - 0.5) * 7
    boxes[:, 7:] = boxes[:, 7:] * 6 - 3
    return boxes, torch.randint(0, 10, (count,), generator=generator)


def make_sample(boxes: Tensor, labels: Tensor) -> Det3DDataSample:
    sample = Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))
    sample.gt_instances_3d = InstanceData(bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), labels_3d=labels)
    return sample


def bags_of(head: FreeAnchorBEVHead, truth: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Flat anchor indices (G, 25), in the released order, that the head chooses for each sample."""
    targets = gather_targets(*zip(*truth, strict=True), head.num_classes, torch.device('cpu'))
    at = assign.select_bags(targets, head.grid, SHAPE, head.pre_anchor_topk)
    flat = (at.y * SHAPE[0] + at.x) * 8 + at.anchor
    return list(flat.split(targets.counts))


def predicted_and_other_truth(head: FreeAnchorBEVHead, bev: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Per sample some of the head's own boxes, slightly moved, with objects that it does not see."""
    boxes, scores = head.decode_outputs(head(bev))
    truth = []
    for i in range(len(bev)):
        others, labels = random_truth(3 + i, i, head.grid.range_m)
        own = boxes[i, 5:10].detach() + torch.tensor([0.05, -0.04, 0.02, 0.1, 0.05, 0.0, 0.1, 0.2, -0.2])
        truth.append((torch.cat([own, others]), torch.cat([scores[i, 5:10].argmax(1), labels])))
    return truth


@pytest.fixture(scope='module')
def trained_case() -> tuple[FreeAnchorBEVHead, Tensor, list]:
    """Head, map and truth where many predictions explain an object: cells of half a metre, boxes near anchors."""
    head = make_head(range_m=(-6.0, -4.5, 6.0, 4.5))
    with torch.no_grad():
        head.conv_reg.weight.mul_(0.2)
        head.conv_reg.bias.mul_(0.2)
    bev = torch.randn(2, CHANNELS, *SHAPE, generator=torch.Generator().manual_seed(3))
    return head, bev, predicted_and_other_truth(head, bev)


@pytest.mark.parametrize('unknown_velocity, layout', [(False, torch.channels_last), (True, torch.contiguous_format)])
def test_losses_and_gradients_equal_the_slow_legacy_head(
    trained_case: tuple, unknown_velocity: bool, layout: torch.memory_format
) -> None:
    head, bev, truth = trained_case
    truth = [(boxes.clone(), labels) for boxes, labels in truth]
    if unknown_velocity:
        truth[0][0][1:4, 7:] = float('nan')
    ours_in, theirs_in = bev.clone(memory_format=layout).requires_grad_(), bev.double().requires_grad_()
    ours = head.loss(ours_in, [make_sample(*t) for t in truth])
    legacy = [to_legacy(boxes) for boxes, _ in truth]
    theirs = legacy_twin(head).losses(theirs_in, legacy, [labels for _, labels in truth], bags_of(head, truth))
    assert ours['loss_positive'].item() == pytest.approx(theirs[0].item(), rel=1e-4)
    assert ours['loss_negative'].item() == pytest.approx(theirs[1].item(), rel=1e-4)
    sum(ours.values()).backward()
    sum(theirs).backward()
    torch.testing.assert_close(ours_in.grad, theirs_in.grad.float(), rtol=1e-3, atol=1e-5)
    assert theirs_in.grad.abs().max() > 1e-2


def test_explained_probability_is_the_same_compiled_and_dense(trained_case: tuple) -> None:
    head, bev, truth = trained_case
    outputs = head._by_anchor(head(bev))
    targets = gather_targets(*zip(*truth, strict=True), 10, torch.device('cpu'))
    rectangles = assign.predicted_rectangles(outputs[1], head.grid)
    explained = assign.explained_probability(rectangles, targets, outputs[0], 0.5)
    # The comparison of losses above proves little unless many predictions explain an object, some of them partly.
    assert explained.max() == 1 and ((explained > 0) & (explained < 1)).sum() > 10
    dense = torch.zeros(2, 8, 10, *SHAPE)
    owners = nearest_rectangles(to_legacy(targets.boxes))
    assign._explain_dense(rectangles, owners, targets, 0.5, dense)
    torch.testing.assert_close(explained, dense)
    nhwc = outputs[0].permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)
    other_layout = assign.explained_probability(rectangles, targets, nhwc, 0.5)
    assert other_layout.stride() == nhwc.stride() and torch.equal(other_layout, explained)


@pytest.mark.parametrize('span', [(24, 18), (60, 44), (3, 2)])
def test_bags_hold_the_best_anchors_of_the_whole_map(span: tuple[int, int]) -> None:
    head = make_head(range_m=(-span[0] / 2, -span[1] / 2, span[0] / 2, span[1] / 2))
    boxes, labels = random_truth(40, 5, head.grid.range_m)
    boxes[:4, :2] *= 3
    boxes[4:8, 3:5] = torch.tensor([[30.0, 0.1], [0.1, 30.0], [14.0, 3.0], [0.1, 0.1]])
    targets = gather_targets([boxes], [labels], 10, torch.device('cpu'))
    at = assign.select_bags(targets, head.grid, span, 25)
    chosen = (at.y * span[0] + at.x) * 8 + at.anchor
    rectangles = nearest_rectangles(make_anchors(span, head.grid.range_m))
    for box, bag in zip(nearest_rectangles(to_legacy(boxes).double()), chosen, strict=True):
        overlap = rectangle_iou(box, rectangles)
        assert len(set(bag.tolist())) == 25
        expected = overlap.topk(25).values.sort().values
        torch.testing.assert_close(overlap[bag].sort().values, expected, rtol=0, atol=2e-5)


def test_boxes_equal_the_slow_legacy_head() -> None:
    head = make_head(seed=4, spread=0.2, max_candidates=200)
    bev = torch.randn(2, CHANNELS, *SHAPE)
    with torch.no_grad():
        boxes, scores = head.decode_outputs(head(bev))
    for ours, our_scores, (legacy, their_scores) in zip(boxes, scores, legacy_twin(head).boxes(bev, 200), strict=True):
        theirs = legacy.clone()
        theirs[:, 3:5] = legacy[:, [4, 3]]
        theirs[:, 6] = -legacy[:, 6] - math.pi / 2
        exact = [0, 1, 2, 3, 4, 5, 7, 8]
        distance, match = torch.cdist(ours[:, exact].double(), theirs[:, exact]).min(1)
        assert distance.max() < 1e-3
        torch.testing.assert_close(our_scores.double(), their_scores[match], rtol=1e-4, atol=1e-5)
        gap = ours[:, 6].double() - theirs[match, 6]
        assert torch.remainder(gap + math.pi, 2 * math.pi).sub(math.pi).abs().max() < 1e-3


def test_released_regression_weights_convert_there_and_back() -> None:
    weight = torch.randn(72, 5, 1, 1)
    there = regression_between_conventions(weight)
    assert torch.equal(regression_between_conventions(there), weight)
    assert torch.equal(there[9 + 3], weight[9 + 4]) and torch.equal(there[9 + 6], -weight[9 + 6])


def test_every_class_and_size_can_be_predicted_exactly() -> None:
    """Codes made by encode come back as the box, through the direction bins and suppression."""
    from perception3d.models.fast_bev.anchors import direction_bin, encode

    head = make_head(spread=0.0)
    boxes, labels = random_truth(8, 9)
    boxes[:, :2] = torch.tensor([[-10.5 + 3 * i, 6.5 - 2 * i] for i in range(8)])
    cls = torch.full((1, 8, 10, *SHAPE), -9.0)
    reg, direction = torch.zeros(1, 8, 9, *SHAPE), torch.zeros(1, 8, 2, *SHAPE)
    for i, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        x, y = int(box[0] - RANGE_M[0]), int(box[1] - RANGE_M[1])
        index = torch.tensor([i]), torch.tensor([x]), torch.tensor([y])
        cls[0, i, label, x, y] = 4 + 0.1 * i
        reg[0, i, :, x, y] = encode(head.grid.boxes(*index, SHAPE), box[None])[0]
        direction[0, i, direction_bin(box[6], head.dir_offset), x, y] = 1.0
    outputs = [v.flatten(1, 2).transpose(2, 3) for v in (cls, reg, direction)]
    head.forward = lambda bev: tuple(outputs)
    (found,) = head.predict(torch.zeros(1, CHANNELS, *SHAPE), [make_sample(boxes, labels)])
    assert len(found) == 8
    assert torch.equal(found.labels_3d, labels.flip(0))
    gap = found.bboxes_3d.tensor - boxes.flip(0)
    gap[:, 6] = torch.remainder(gap[:, 6] + math.pi, 2 * math.pi) - math.pi
    assert gap.abs().max() < 1e-4


def test_several_passes_are_joined_before_suppression() -> None:
    head = make_head(seed=6)
    samples = [make_sample(*random_truth(2, i)) for i in range(2)]
    bev, other = torch.randn(2, CHANNELS, *SHAPE), torch.randn(2, CHANNELS, *SHAPE)
    single = head.predict(bev, samples)
    same_twice = head.predict_passes([bev, bev], samples)
    for one, two in zip(single, same_twice, strict=True):
        torch.testing.assert_close(two.scores_3d[: len(one)], one.scores_3d)
        assert len(two) == len(one) <= head.max_boxes
    mixed = head.predict_passes([bev, other], samples)[0]
    assert not torch.equal(mixed.scores_3d[:50], single[0].scores_3d[:50])


@pytest.mark.parametrize('counts', [(0, 3), (0, 0)])
def test_empty_ground_truth_gives_finite_loss_and_gradients(counts: tuple[int, int]) -> None:
    head = make_head()
    bev = torch.randn(2, CHANNELS, *SHAPE, requires_grad=True)
    losses = head.loss(bev, [make_sample(*random_truth(n, 7)) for n in counts])
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert head.conv_cls.weight.grad.abs().max() > 0
    assert (losses['loss_positive'] > 0) == (sum(counts) > 0)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize('size', [1.0, 1e3, 6e4])
def test_losses_stay_finite_in_half_precision_and_for_huge_features(dtype: torch.dtype, size: float) -> None:
    head = make_head(spread=1.0)
    bev = (torch.randn(2, CHANNELS, *SHAPE) * size).to(dtype).clamp(-6e4, 6e4).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = head.loss(bev, [make_sample(*random_truth(4, 1)), make_sample(*random_truth(3, 2))])
    assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
    sum(losses.values()).backward()
    assert bev.grad.isfinite().all() and all(p.grad.isfinite().all() for p in head.parameters())
    assert head.predict(bev, [make_sample(*random_truth(1, i)) for i in range(2)])[0].scores_3d.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_fifty_steps_in_half_precision_with_empty_samples_stay_finite_and_learn(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head = FreeAnchorBEVHead(in_channels=16, anchors=dict(range_m=RANGE_M))
    model = torch.nn.ModuleList([M2BEVNeck(CHANNELS, 16, num_layers=0, stride=1), head])
    bevs = torch.randn(3, 2, CHANNELS, 12, 9, generator=torch.Generator().manual_seed(4))
    # The second batch has an empty sample, the third one nothing at all.
    batches = [[make_sample(*random_truth(n, 7 + n)) for n in counts] for counts in ((4, 3), (0, 5), (0, 0))]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scaler = torch.amp.GradScaler('cpu', enabled=dtype == torch.float16)
    history = []
    for step in range(50):
        bev, samples = bevs[step % 3], batches[step % 3]
        with torch.autocast('cpu', dtype=dtype):
            features = model[0]([bev])
            assert features.dtype == dtype
            losses = head.loss(features, samples)
        assert all(value.isfinite() for value in losses.values()), (step, losses)
        total = sum(losses.values())
        history.append(total.detach())
        optimizer.zero_grad()
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
        scaler.step(optimizer)
        scaler.update()
        assert all(p.isfinite().all() for p in model.parameters()), step
    assert history[48] < 0.7 * history[0] and history[49] < 0.7 * history[1]


def test_infinite_outputs_have_a_finite_loss() -> None:
    head = make_head()
    outputs = [out.detach() for out in head(torch.randn(1, CHANNELS, *SHAPE))]
    for out, value in zip(outputs, (float('inf'), float('-inf'), float('inf')), strict=True):
        out[:, ::3] = value
        out[:, 1::3] = -value
        out.requires_grad_()
    losses = head.loss_from_outputs(tuple(outputs), [make_sample(*random_truth(5, 1))])
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())
    assert all(out.grad.isfinite().all() for out in outputs)


def test_a_broken_map_shows_in_the_loss_and_spares_the_other_boxes() -> None:
    head = make_head()
    bev = torch.randn(1, CHANNELS, *SHAPE)
    sample = make_sample(*random_truth(3, 1))
    whole = head.predict(bev, [sample])[0]
    bev[0, :, 12:] = float('nan')
    assert not head.loss(bev, [sample])['loss_negative'].isfinite()
    broken = head.predict(bev, [sample])[0]
    assert broken.bboxes_3d.tensor.isfinite().all() and 0 < len(broken) <= len(whole)


def test_degenerate_boxes_do_no_harm_and_broken_ones_are_left_out() -> None:
    head = make_head()
    bev = torch.randn(1, CHANNELS, *SHAPE, requires_grad=True)
    boxes, labels = random_truth(6, 3)
    clean = head.loss(bev, [make_sample(boxes, labels)])
    broken = torch.cat([boxes, boxes[:3]])
    broken[6, 0], broken[7, 4] = float('nan'), float('inf')
    marked = torch.cat([labels, labels[:2], torch.tensor([-1])])
    with_broken = head.loss(bev, [make_sample(broken, marked)])
    for name, value in clean.items():
        torch.testing.assert_close(with_broken[name], value)
    boxes[0, 3:6], boxes[1, 4] = 0.0, -1.0
    losses = head.loss(bev, [make_sample(boxes, labels)])
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values()) and bev.grad.isfinite().all()


def test_background_loss_has_the_right_gradient_and_limits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(40, generator=generator, dtype=torch.float64) * 4).requires_grad_()
    explained = torch.rand(40, generator=generator, dtype=torch.float64) * (torch.arange(40) % 2)
    assert torch.autograd.gradcheck(lambda x: negative_loss(x, explained, 2.0), logits)
    prob = logits.sigmoid() * (1 - explained)
    expected = (prob**2 * -torch.log1p(-prob)).sum()
    torch.testing.assert_close(negative_loss(logits, explained, 2.0), expected)
    extreme = torch.tensor([1e4, -1e4, 1e4, 100.0], requires_grad=True)
    loss = negative_loss(extreme, torch.tensor([0.0, 0.0, 1.0, 1e-30]), 2.0)
    loss.backward()
    assert loss.isfinite() and extreme.grad.isfinite().all()
    assert extreme.grad[0] == pytest.approx(1.0) and extreme.grad[2] == 0


def test_training_the_head_alone_finds_the_boxes() -> None:
    """A map with a marked cell at each object is enough to learn its class and box."""
    head = make_head(spread=0.01)
    boxes, labels = random_truth(6, 11)
    boxes[:, :2] = torch.tensor([[-9.5 + 3.7 * i, 6.5 - 2.4 * i] for i in range(6)])
    bev = torch.zeros(1, CHANNELS, *SHAPE)
    for i, box in enumerate(boxes):
        bev[0, i, int(box[0] - RANGE_M[0]), int(box[1] - RANGE_M[1])] = 5.0
    sample = make_sample(boxes, labels)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        sum(head.loss(bev, [sample]).values()).backward()
        optimizer.step()
    (found,) = head.predict(bev, [sample])
    for box, label in zip(boxes, labels, strict=True):
        gap = (found.bboxes_3d.tensor[:, :2] - box[:2]).norm(dim=1)
        near = (gap < 0.3) & (found.labels_3d == label) & (found.scores_3d > 0.5)
        assert near.any()


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match='code_weights'):
        make_head(code_weights=(1.0,) * 7)
    with pytest.raises(InputError, match='num_classes is 10'):
        make_head(nms=dict(kinds=['rotate'], thresholds=[0.2], factors=[1.0]))
    with pytest.raises(InputError, match='rotate or circle'):
        make_head(nms=dict(kinds=['soft'] * 10))
    assert make_head(nms=dict(iou=0.3)).nms.thresholds == (0.3,) * 10
