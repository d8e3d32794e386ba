"""The centre head: targets and losses against mmdet3d's, exact round trip, behaviour on empty and broken truth."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.losses import GaussianFocalLoss
from mmdet3d.models.dense_heads import CenterHead
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.fast_bev.center_head import CenterBEVHead
from perception3d.models.heads.heatmap import heatmap_loss
from perception3d.models.heads.targets import gather_targets

RANGE_M = (-12.0, -8.0, 12.0, 8.0)
SHAPE = (24, 16)
CLASSES = ['car', 'truck', 'pedestrian']


def make_head(**settings) -> CenterBEVHead:
    torch.manual_seed(0)
    return CenterBEVHead(in_channels=8, range_m=RANGE_M, num_classes=3, hidden_channels=8, **settings)


def random_truth(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Boxes (count, 9), a few of them off the map, and labels."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(count, 9, generator=generator)
    low = torch.tensor([-13.0, -9.0, -2.0, 0.3, 0.3, 0.5, -4.0, -2.0, -2.0])
    high = torch.tensor([13.0, 9.0, 0.0, 9.0, 3.0, 3.0, 4.0, 2.0, 2.0])
    return low + draw * (high - low), torch.randint(0, 3, (count,), generator=generator)


def make_sample(boxes: Tensor, labels: Tensor) -> Det3DDataSample:
    sample = Det3DDataSample()
    sample.set_metainfo(dict(box_type_3d=LiDARInstance3DBoxes))
    sample.gt_instances_3d = InstanceData(bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), labels_3d=labels)
    return sample


def mmdet3d_head() -> CenterHead:
    """mmdet3d's head on the same map, for its targets; its maps are (Y, X)."""
    size = [(RANGE_M[2] - RANGE_M[0]) / SHAPE[0], (RANGE_M[3] - RANGE_M[1]) / SHAPE[1], 8]
    return CenterHead(
        in_channels=8,
        tasks=[dict(num_class=3, class_names=CLASSES)],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
        bbox_coder=dict(
            type='CenterPointBBoxCoder', pc_range=list(RANGE_M[:2]), out_size_factor=1, voxel_size=size[:2], code_size=9
        ),
        separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3),
        train_cfg=dict(
            grid_size=[*SHAPE, 1],
            point_cloud_range=[*RANGE_M[:2], -5, *RANGE_M[2:], 3],
            voxel_size=size,
            out_size_factor=1,
            dense_reg=1,
            gaussian_overlap=0.1,
            max_objs=100,
            min_radius=2,
        ),
    )


def test_targets_equal_those_of_mmdet3d() -> None:
    samples = [random_truth(count, seed) for count, seed in ((60, 1), (1, 2), (20, 3))]
    # mmdet3d rounds towards zero, so that it takes a box up to one cell below the edge for one of the first cell.
    low = torch.tensor(RANGE_M[:2])
    samples = [(b[keep], c[keep]) for b, c in samples for keep in [~((b[:, :2] < low) & (b[:, :2] > low - 1)).any(1)]]
    found = gather_targets([b for b, _ in samples], [c for _, c in samples], 3, torch.device('cpu'))
    targets = make_head(max_radius=12).targets(found, SHAPE)
    reference = mmdet3d_head()
    first = 0
    for i, (boxes, labels) in enumerate(samples):
        truth = InstanceData(bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), labels_3d=labels)
        heatmaps, codes, index, mask = (field[0] for field in reference.get_targets_single(truth))
        assert torch.allclose(targets.heatmap[i], heatmaps.transpose(1, 2), atol=1e-6)
        own = slice(first, first + len(boxes))
        # mmdet3d sorts by class, and counts offsets from a cell's corner instead of its middle.
        order = torch.argsort(labels, stable=True)
        inside = targets.inside[own][order]
        assert torch.equal(inside, mask[: len(boxes)].bool())
        expected = codes[: len(boxes)][inside]
        expected[:, :2] -= 0.5
        assert torch.allclose(targets.codes[own][order][inside], expected, atol=1e-4)
        cells = targets.y[own] * SHAPE[0] + targets.x[own]
        assert torch.equal(cells[order][inside], index[: len(boxes)][inside])
        first += len(boxes)
    assert 0 < targets.inside.sum() < len(targets.inside)


def test_heatmap_loss_equals_mmdet() -> None:
    torch.manual_seed(0)
    heat = torch.rand(2, 3, 6, 5) ** 3
    heat[0, 1, 2, 3] = heat[1, 0, 0, 0] = 1
    logits = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    ours = heatmap_loss(logits, heat.double())
    theirs = GaussianFocalLoss(reduction='sum')(logits.sigmoid(), heat.double())
    assert torch.allclose(ours, theirs)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-9)


def test_perfect_maps_give_the_boxes_back() -> None:
    boxes, labels = random_truth(40, 5)
    # One box per 4 x 4 m, so that none hides another.
    lattice = torch.cartesian_prod(torch.arange(-10.0, 11, 4), torch.arange(-6.0, 7, 4))
    boxes = boxes[: len(lattice)]
    boxes[:, :2] = lattice + torch.rand(len(lattice), 2, generator=torch.Generator().manual_seed(0)) - 0.5
    boxes[:, 3:5] = boxes[:, 3:5].clamp(max=1.5)
    labels = labels[: len(lattice)]
    head = make_head()
    targets = head.targets(gather_targets([boxes], [labels], 3, torch.device('cpu')), SHAPE)
    codes = torch.zeros(1, 10, *SHAPE)
    codes[0, :, targets.x, targets.y] = targets.codes.T
    head.forward = lambda _: (torch.logit(targets.heatmap.clamp(1e-6, 1 - 1e-6)), codes)
    found = head.predict(torch.zeros(1, 8, *SHAPE), [make_sample(boxes, labels)])[0]
    sure = found.scores_3d > 0.99
    assert int(sure.sum()) == len(boxes)
    match = torch.cdist(boxes[:, :2], found.bboxes_3d.tensor[sure][:, :2]).argmin(1)
    got = found.bboxes_3d.tensor[sure][match]
    turn = torch.remainder(got[:, 6] - boxes[:, 6] + 1, 2 * torch.pi) - 1
    assert turn.abs().max() < 1e-4
    keep = [0, 1, 2, 3, 4, 5, 7, 8]
    assert torch.allclose(got[:, keep], boxes[:, keep], atol=1e-4)
    assert torch.equal(found.labels_3d[sure][match], labels)


@pytest.mark.parametrize('counts', [(0, 0), (0, 5)])
def test_empty_ground_truth_gives_finite_loss_and_gradients(counts: tuple[int, int]) -> None:
    head = make_head()
    bev = torch.randn(2, 8, *SHAPE, requires_grad=True)
    losses = head.loss(bev, [make_sample(*random_truth(count, 7)) for count in counts])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values()) and bev.grad.isfinite().all() and bev.grad.abs().sum() > 0
    assert bool(losses['loss_box'] == 0) == (sum(counts) == 0)


def test_broken_boxes_and_unknown_speeds_are_left_out() -> None:
    head = make_head().eval()
    boxes, labels = random_truth(6, 9)
    boxes[:, :2] = boxes[:, :2].clamp(-7, 7)
    bev = torch.randn(1, 8, *SHAPE)
    good = head.loss(bev, [make_sample(boxes, labels)])
    broken = torch.cat([boxes, boxes[:2]])
    broken[6, 0], broken[7, 4] = float('nan'), float('inf')
    same = head.loss(bev, [make_sample(broken, torch.cat([labels, labels[:2]]))])
    assert all(torch.allclose(good[name], same[name]) for name in good)
    boxes[:, 7:] = float('nan')
    unknown = head.loss(bev, [make_sample(boxes, labels)])
    assert 0 < unknown['loss_box'] < good['loss_box']


def test_huge_outputs_have_finite_losses_and_gradients() -> None:
    logits = torch.tensor([[[[1e4, -1e4, 80.0, -80.0]]]], requires_grad=True)
    loss = heatmap_loss(logits, torch.tensor([[[[0.0, 1.0, 1.0, 0.5]]]]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert logits.grad[0, 0, 0, 0] > 0 > logits.grad[0, 0, 0, 1]


def test_several_passes_are_joined_before_suppression() -> None:
    head = make_head(score_thr=0.0).eval()
    torch.nn.init.normal_(head.out_conv.weight, std=1.0)
    bev = torch.randn(1, 8, *SHAPE)
    sample = [make_sample(*random_truth(1, 0))]
    once, twice = head.predict(bev, sample)[0], head.predict_passes([bev, bev], sample)[0]
    assert len(once.scores_3d) > 3
    assert torch.equal(once.bboxes_3d.tensor, twice.bboxes_3d.tensor)


def test_training_the_head_alone_finds_the_boxes() -> None:
    head = make_head()
    boxes, labels = random_truth(8, 11)
    boxes[:, :2] = torch.cartesian_prod(torch.tensor([-9.0, -3, 3, 9]), torch.tensor([-5.0, 5]))
    sample = [make_sample(boxes, labels)]
    bev = torch.randn(1, 8, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.Adam([bev, *head.parameters()], lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        sum(head.loss(bev, sample).values()).backward()
        optimizer.step()
    found = head.predict(bev.detach(), sample)[0]
    nearest = torch.cdist(boxes[:, :2], found.bboxes_3d.tensor[:, :2])
    best = nearest.argmin(1)
    assert nearest.amin(1).max() < 0.3
    assert torch.equal(found.labels_3d[best], labels)


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match='10 numbers'):
        make_head(code_weights=(1.0, 1.0))
