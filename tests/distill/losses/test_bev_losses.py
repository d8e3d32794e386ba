"""The losses of structured distillation between BEV detectors, on numbers worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from perception3d.checks import InputError
from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.losses.attention_update import AttentionUpdateKD
from perception3d.distill.losses.fused_feature import FusedFeatureKD
from perception3d.distill.losses.pillar_response import PillarBoxKD, PillarClassKD, PillarSaliencyKD
from perception3d.distill.losses.pillars import pillar_weights
from perception3d.distill.losses.temporal_relation import TemporalRelationKD
from perception3d.distill.losses.view_relation import ViewRelationKD
from perception3d.geometry.grid import VoxelGrid


def logit(*probabilities):
    p = torch.tensor(probabilities, dtype=torch.float64)
    return (p / (1 - p)).log()


def context(**teacher):
    return SimpleNamespace(teacher=teacher)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_pillar_weights_follow_the_teachers_best_class_and_average_to_one():
    logits = logit(0.2, 0.6, 0.1, 0.1).view(1, 2, 1, 2)  # classes x two pillars: best 0.2 and 0.6
    torch.testing.assert_close(pillar_weights(logits, (1, 2)).flatten(), torch.tensor([0.5, 1.5], dtype=torch.float64))
    squared = pillar_weights(logits, (1, 2), gamma=2.0).flatten()  # 0.04 and 0.36, mean 0.2
    torch.testing.assert_close(squared, torch.tensor([0.2, 1.8], dtype=torch.float64))
    transposed = pillar_weights(logits, (2, 1), transposed=True)
    torch.testing.assert_close(transposed.flatten(), torch.tensor([0.5, 1.5], dtype=torch.float64))


def test_fused_features_are_compared_with_the_standardised_teacher():
    teacher = torch.tensor([1.0, 3.0], dtype=torch.float64).view(1, 1, 1, 2)  # standardised: -1, 1
    student = torch.tensor([0.0, 3.0], dtype=torch.float64).view(1, 1, 1, 2)  # gaps: 1 and 2, squared 1 and 4
    assert float(FusedFeatureKD()(student, teacher, None)) == pytest.approx(2.5, abs=1e-4)
    heads = context(head=logit(0.2, 0.6).view(1, 1, 1, 2))  # weights 0.5 and 1.5
    assert float(FusedFeatureKD('head')(student, teacher, heads)) == pytest.approx((0.5 + 6.0) / 2, abs=1e-4)


def test_temporal_relations_are_squared_gaps_of_cosines():
    # One pillar, two frames of two channels. Student: (1, 0) and (0, 1), cosine 0. Teacher: equal frames, cosine 1.
    student = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64).view(1, 4, 1, 1)
    teacher = torch.tensor([1.0, 0.0, 2.0, 0.0], dtype=torch.float64).view(1, 4, 1, 1)
    loss = TemporalRelationKD(2, 2, height=1)
    assert float(loss(student, teacher, None)) == pytest.approx(2 / 4)  # two entries off the diagonal, of four
    assert float(loss(student * 3, student, None)) == pytest.approx(0, abs=1e-12)
    unseen = teacher.clone()
    unseen[:, 2:] = 0  # the teacher has no image of the second frame there
    assert float(loss(student, unseen, None)) == 0


def test_temporal_relations_collapse_the_height_and_take_common_frames():
    # Channels are (z, frame, c): z 2, c 3. Teacher of three frames, student of two: the oldest is left out.
    student, teacher = random(1, 2 * 2 * 3, 4, 5), random(1, 2 * 3 * 3, 4, 5, seed=1)
    value = float(TemporalRelationKD(2, 3, height=2)(student, teacher, None))
    slow = 0.0
    for x in range(4):
        for y in range(5):
            cosines = []
            for maps, frames in ((student, 3 - 1), (teacher, 3)):
                cell = maps[0, :, x, y].reshape(2, frames, 3)
                now, before = cell[:, 0].flatten(), cell[:, 1].flatten()
                cosines.append(float(now @ before / now.norm() / before.norm()))
            slow += 2 * (cosines[0] - cosines[1]) ** 2 / 4
    assert value == pytest.approx(slow / 20)
    taller = teacher.repeat(1, 2, 1, 1)  # the same two heights twice: the directions stay
    assert float(TemporalRelationKD(2, 3, height=2, teacher_height=4)(student, taller, None)) == pytest.approx(value)
    with pytest.raises(InputError, match='two frames'):
        TemporalRelationKD(1, 4, height=2)
    with pytest.raises(InputError, match='not a multiple of .height x levels. 5'):
        TemporalRelationKD(2, 2, height=5)(student, student, None)


def test_temporal_relations_of_the_same_content_on_another_grid_have_no_loss():
    # Two frames whose cosine is -0.6 wherever both have an image; each has none in a different part.
    coarse = torch.tensor([1.0, 0.0, -0.6, 0.8], dtype=torch.float64).view(1, 4, 1, 1).repeat(1, 1, 4, 4)
    coarse[:, 2:, 0], coarse[:, :2, 3, 1:] = 0, 0
    fine = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    loss = TemporalRelationKD(2, 2, height=1, resample='bilinear')
    assert float(loss(fine, coarse, None)) == pytest.approx(0, abs=1e-12)
    assert float(loss(coarse, fine, None)) == pytest.approx(0, abs=1e-12)
    with pytest.raises(InputError, match=r"\(1, 4, 8, 8\).*\(1, 4, 4, 4\).*resample='bilinear'"):
        TemporalRelationKD(2, 2, height=1)(fine, coarse, None)
    with pytest.raises(InputError, match="'bilinear'"):
        TemporalRelationKD(2, 2, height=1, resample='nearest')


def test_resampled_relations_are_means_of_the_cells_that_are_seen():
    # One row of four cells becomes two of two: cosines 1, 0, -0.6 and a cell without image.
    teacher = torch.zeros(1, 4, 1, 4, dtype=torch.float64)
    teacher[0, 0] = 1
    teacher[0, 2:, 0] = torch.tensor([[1.0, 0.0, -0.6, 0.0], [0.0, 1.0, 0.8, 0.0]])
    student = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64).view(1, 4, 1, 1).repeat(1, 1, 1, 2)  # cosine 1
    loss = TemporalRelationKD(2, 2, height=1, resample='bilinear')
    # Means 0.5 and, of the one cell that is seen, -0.6; half of the weight is enough.
    assert float(loss(student, teacher, None)) == pytest.approx(2 * (0.25 + 2.56) / 4 / 2)
    # From three cells to one the middle one has all the weight, and it has no image.
    alone = teacher[..., [0, 3, 1]]
    assert float(loss(student[..., :1], alone, None)) == 0


def view(rows, hw, matrices, image_hw):
    """What a view transform takes: one level, one frame, the cameras of one sample."""
    first = np.arange(len(matrices))[None, None] * hw[0] * hw[1]
    level = SimpleNamespace(rows=rows, hw=hw, first=first)
    return [level], np.asarray(matrices)[None, None], image_hw, None


def test_views_are_compared_where_two_cameras_see_a_voxel():
    # Two cameras at the origin that look along x, the second shifted by a pixel: u = 4 y / x (+ 1), v = 0.
    camera = np.array([[0.0, 4, 0, 0], [0, 0, 4, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    shifted = camera.copy()
    shifted[0, 0] = 1.0
    grid = VoxelGrid(range_m=(4, 0, 0, 5, 4, 1), shape=(1, 4, 1))  # samples at x = 4, y = 0 1 2 3: u = y and y + 1
    size = (1, 4)
    student, teacher = random(8, 3), random(8, 3, seed=1)
    views = [view(rows, size, [camera, shifted], size) for rows in (student, teacher)]
    gaps = []
    for y in range(3):  # for y = 3 the second camera's pixel is 4, outside
        cosines = [float(torch.cosine_similarity(rows[y], rows[4 + y + 1], 0)) for rows in (student, teacher)]
        gaps.append((cosines[0] - cosines[1]) ** 2)
    assert float(ViewRelationKD(grid, gram_weight=0.0)(*views, None)) == pytest.approx(sum(gaps) / 3)
    grams = []
    for rows in (student, teacher):
        means = torch.nn.functional.normalize(rows.view(2, 4, 3).mean(1), dim=-1)
        grams.append(torch.softmax(means @ means.T / 0.1, -1))
    kl = float((grams[1] * (grams[1] / grams[0]).log()).sum(-1).mean())
    whole = float(ViewRelationKD(grid, gram_weight=2.0)(*views, None))
    assert whole == pytest.approx(sum(gaps) / 3 + 2 * kl)
    with pytest.raises(InputError, match='input'):
        ViewRelationKD(grid)(student, teacher, None)


def test_views_may_differ_in_size_and_channels():
    camera = np.array([[0.0, 4, 0, 0], [0, 0, 4, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    grid = VoxelGrid(range_m=(4, 0, 0, 5, 4, 1), shape=(1, 4, 1))
    small, large = (
        view(random(8, 3), (1, 4), [camera] * 2, (1, 4)),
        view(random(16, 5), (1, 8), [camera * 1.0] * 2, (1, 8)),
    )
    assert float(ViewRelationKD(grid)(small, large, None)) > 0
    # Both cameras are one here, so a network whose images are equal has cosine 1 everywhere.
    same = view(random(4, 3).repeat(2, 1), (1, 4), [camera] * 2, (1, 4))
    assert float(ViewRelationKD(grid, gram_weight=0.0)(same, same, None)) == pytest.approx(0, abs=1e-12)


def test_padding_does_not_count():
    camera = np.array([[0.0, 4, 0, 0], [0, 0, 4, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    grid = VoxelGrid(range_m=(4, 0, 0, 5, 4, 1), shape=(1, 4, 1))

    def padded(seed):
        rows = random(8, 3).view(2, 4, 3).clone()
        rows[:, 2:] = random(2, 2, 3, seed=seed)  # the last two columns are padding
        levels, matrices, image_hw, _ = view(rows.view(8, 3), (1, 4), [camera] * 2, (1, 4))
        return levels, matrices, image_hw, (1, 2)

    other = view(random(8, 3, seed=9), (1, 4), [camera] * 2, (1, 4))
    first, second = (float(ViewRelationKD(grid)(padded(seed), other, None)) for seed in (1, 2))
    assert first == pytest.approx(second) and first > 0


def test_saliency_is_the_divergence_of_two_distributions_over_the_plane():
    student = torch.tensor([0.0, 0.0], dtype=torch.float64).view(1, 1, 1, 2)
    teacher = torch.tensor([math.log(3.0) * 2, 0.0], dtype=torch.float64).view(1, 1, 1, 2)
    # With tau 2 the teacher has 3/4 and 1/4, the student a half each.
    wanted = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert float(PillarSaliencyKD(tau=2.0)(student, teacher, None)) == pytest.approx(wanted)
    # The best class counts: one that is lower everywhere changes nothing.
    low = torch.cat([teacher, teacher - 5], 1), torch.cat([student, student - 5], 1)
    assert float(PillarSaliencyKD(tau=2.0)(low[1], low[0], None)) == pytest.approx(wanted)


def test_classes_are_compared_by_quality_focal_loss_weighted_by_the_teachers_score():
    student, teacher = logit(0.5, 0.5).view(1, 1, 1, 2), logit(0.8, 0.2).view(1, 1, 1, 2)
    # |0.3|^2 * ln 2 in both pillars, weights 0.8 and 0.2.
    assert float(PillarClassKD()(student, teacher, None)) == pytest.approx(0.09 * math.log(2))
    two = torch.cat([student, student], 1), torch.cat([teacher, teacher], 1)
    assert float(PillarClassKD()(*two, None)) == pytest.approx(0.18 * math.log(2))
    assert float(PillarClassKD()(teacher, teacher, None)) == 0


def test_boxes_are_compared_where_the_teacher_is_confident():
    student, teacher = torch.zeros(1, 2, 1, 3, dtype=torch.float64), torch.zeros(1, 2, 1, 3, dtype=torch.float64)
    teacher[0, 0, 0] = torch.tensor([0.5, 3.0, 9.0])  # smooth L1 with beta 1: 0.125, 2.5
    teacher[0, 1, 0] = torch.tensor([1.0, 0.0, 9.0])  # 0.5, 0, times the weight of 2
    heads = context(head=logit(0.5, 0.9, 0.2).view(1, 1, 1, 3))  # the third pillar is below the threshold
    loss = PillarBoxKD('head', code_weights=(1.0, 2.0))
    wanted = (0.5 * (0.125 + 1.0) + 0.9 * 2.5) / 1.4
    assert float(loss(student, teacher, heads)) == pytest.approx(wanted, rel=1e-6)
    angle = PillarBoxKD('head', code_weights=(1.0, 2.0), yaw_code=1)
    rotated = teacher.clone()
    rotated[0, 1, 0] += 2 * math.pi
    assert float(angle(student, rotated, heads)) == pytest.approx(float(angle(student, teacher, heads)), rel=1e-6)
    assert float(loss(student, teacher, context(head=logit(0.1, 0.1, 0.1).view(1, 1, 1, 3)))) == 0
    # KL of the teacher's directions (1/4, 3/4) to a half each, in both confident slots.
    divergence = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    sides = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 1, 3)
    both = SimpleNamespace(
        student=dict(dirs=torch.zeros_like(sides)), teacher=dict(head=heads.teacher['head'], dirs=sides)
    )
    with_sides = PillarBoxKD('head', code_weights=(1.0, 2.0), student_directions='dirs', teacher_directions='dirs')
    assert float(with_sides(student, teacher, both)) == pytest.approx(wanted + divergence, rel=1e-6)
    with pytest.raises(InputError, match='taps of both networks'):
        PillarBoxKD('head', student_directions='dirs')
    with pytest.raises(InputError, match='one grid'):
        loss(student[..., :2], teacher, heads)


def test_updates_of_queries_are_compared_by_direction():
    # Three queries of two channels. Inputs differ, so that the outputs alone have other cosines.
    before, other = torch.full((1, 3, 2), 5.0), torch.full((1, 3, 2), -7.0)
    student = before + torch.tensor([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    teacher = other + torch.tensor([[[3.0, 0.0], [1.0, 0.0], [-1.0, -1.0]]])  # cosines 1, 0, -1
    taps = SimpleNamespace(student=dict(a=before), teacher=dict(a=other))
    loss = AttentionUpdateKD('a', 'a')
    assert float(loss(student, teacher, taps)) == pytest.approx((0 + 1 + 2) / 3, abs=1e-6)
    # Logits (K, X = 1, Y = 3) of scores 0.2, 0.2, 0.8, weights 0.5, 0.5, 2; queries over y are those over rows.
    taps.teacher['head'] = logit(0.2, 0.2, 0.8).view(1, 1, 1, 3).float()
    assert float(AttentionUpdateKD('a', 'a', 'head')(student, teacher, taps)) == pytest.approx((0.5 + 4) / 3, abs=1e-5)
    with pytest.raises(InputError, match='equal shapes'):
        loss(student[:, :2], teacher, taps)
    taps.teacher['head'] = taps.teacher['head'][..., :2]
    with pytest.raises(InputError, match='do not match the grid'):
        AttentionUpdateKD('a', 'a', 'head')(student, teacher, taps)


def test_weights_of_queries_follow_their_order():
    before, student, teacher = torch.zeros(1, 4, 2), torch.ones(1, 4, 2), torch.ones(1, 4, 2)
    teacher[0, 1] = -1.0  # query 1 is x = 1, y = 0 where x runs fastest, and x = 0, y = 1 where y does
    taps = SimpleNamespace(student=dict(a=before), teacher=dict(a=before))
    taps.teacher['head'] = logit(0.2, 0.2, 0.8, 0.4).view(1, 1, 2, 2).float()  # axes x, y: (1, 0) has 0.8
    wanted = {True: 2.0, False: 0.5}
    for y_first, weight in wanted.items():
        value = float(AttentionUpdateKD('a', 'a', 'head', y_first)(student, teacher, taps))
        assert value == pytest.approx(2 * weight / 4, abs=1e-5)


def test_updates_of_queries_on_another_grid_are_resized_where_that_is_stated():
    # The teacher has twice the queries on both axes; of four updates the mean counts.
    student, teacher = random(2, 6, 3), random(2, 24, 3, seed=1)
    taps = SimpleNamespace(student=dict(a=torch.zeros(2, 6, 3)), teacher=dict(a=torch.zeros(2, 24, 3)))
    loss = AttentionUpdateKD('a', 'a', grids=((2, 3), (4, 6)))
    slow = 0.0
    for b in range(2):
        for row in range(2):
            for column in range(3):
                four = [teacher[b, (2 * row + i) * 6 + 2 * column + j] for i in range(2) for j in range(2)]
                own, mean = student[b, row * 3 + column], sum(four) / 4
                slow += 1 - float(own @ mean / own.norm() / mean.norm())
    assert float(loss(student, teacher, taps)) == pytest.approx(slow / 12)
    # Weights are those of the student's grid: two of four columns of the logits (X, Y) are one column of queries.
    taps.teacher['head'] = random(2, 1, 6, 4, seed=2)
    weighted = AttentionUpdateKD('a', 'a', 'head', grids=((2, 3), (4, 6)))(student, teacher, taps)
    weights = pillar_weights(taps.teacher['head'], (3, 2))[:, 0].transpose(1, 2).flatten(1)
    same = SimpleNamespace(student=taps.student, teacher=dict(a=torch.zeros(2, 6, 3)))
    small = torch.nn.functional.avg_pool2d(teacher.transpose(1, 2).unflatten(2, (4, 6)), 2).flatten(2).transpose(1, 2)
    each = [
        float(AttentionUpdateKD('a', 'a')(student[b : b + 1, q : q + 1], small[b : b + 1, q : q + 1], cut(same, b, q)))
        for b in range(2)
        for q in range(6)
    ]
    assert float(weighted) == pytest.approx(float((torch.tensor(each) * weights.flatten()).mean()), rel=1e-5)
    with pytest.raises(InputError, match=r'grids=\(\(rows'):
        AttentionUpdateKD('a', 'a')(student, teacher, taps)
    with pytest.raises(InputError, match='do not match the 6 queries'):
        AttentionUpdateKD('a', 'a', grids=((2, 2), (4, 6)))(student, teacher, taps)


def cut(taps, b, q):
    """One query of the inputs of both networks."""
    return SimpleNamespace(
        student=dict(a=taps.student['a'][b : b + 1, q : q + 1]), teacher=dict(a=taps.teacher['a'][b : b + 1, q : q + 1])
    )


@pytest.mark.parametrize('slots', [1, 2])
def test_boxes_of_several_slots_are_weighted_by_their_own_scores(slots):
    student, teacher = random(1, slots * 2, 2, 2), random(1, slots * 2, 2, 2, seed=1)
    scores = torch.rand(1, slots * 3, 2, 2, dtype=torch.float64) * 0.9 + 0.05
    loss = PillarBoxKD('head', slots=slots, code_weights=(1.0, 1.0), score_thr=0.5)
    slow, weight = 0.0, 0.0
    for slot in range(slots):
        best = scores[0, slot * 3 : slot * 3 + 3].amax(0)
        for x in range(2):
            for y in range(2):
                if best[x, y] <= 0.5:
                    continue
                gap = (student - teacher)[0, slot * 2 : slot * 2 + 2, x, y].abs()
                error = torch.where(gap < 1, gap**2 / 2, gap - 0.5).sum()
                slow, weight = slow + float(best[x, y] * error), weight + float(best[x, y])
    value = loss(student, teacher, context(head=(scores / (1 - scores)).log()))
    assert float(value) == pytest.approx(slow / weight, rel=1e-5)


def test_equal_networks_have_no_loss():
    maps, logits = random(2, 4, 3, 5), random(2, 3, 3, 5, seed=1)
    heads = SimpleNamespace(student=dict(dirs=maps[:, :2], a=maps[:, :1]), teacher=dict(head=logits, dirs=maps[:, :2]))
    boxes = PillarBoxKD(
        'head', code_weights=(1.0,) * 4, score_thr=0.0, student_directions='dirs', teacher_directions='dirs'
    )
    assert float(boxes(maps, maps, heads)) == pytest.approx(0, abs=1e-12)
    assert float(PillarClassKD()(logits, logits, None)) == 0
    assert float(PillarSaliencyKD()(logits, logits, None)) == pytest.approx(0, abs=1e-12)
    assert float(TemporalRelationKD(2, 2, height=1)(maps, maps, None)) == 0
    # The student's end is compared with a standardised teacher: an adapter with batch norm brings the student there.
    adapter = ConvAdapter(4, 4, norm=True).double()
    with torch.no_grad():
        adapter.conv.weight.copy_(torch.eye(4).view(4, 4, 1, 1))
    fused = FusedFeatureKD('head')(adapter(maps).detach(), maps, heads)
    assert float(fused) == pytest.approx(0, abs=1e-8)
    tokens, before = random(1, 15, 4), random(1, 15, 4, seed=2)
    taps = SimpleNamespace(student=dict(a=before), teacher=dict(a=before))
    assert float(AttentionUpdateKD('a', 'a')(tokens, tokens, taps)) == pytest.approx(0, abs=1e-12)


def test_a_frame_that_underflows_has_a_finite_gradient():
    maps = random(1, 4, 2, 2).float()
    maps[:, 2:] *= 1e-25
    maps.requires_grad_()
    TemporalRelationKD(2, 2, height=1)(maps, random(1, 4, 2, 2, seed=1).float(), None).backward()
    assert maps.grad.isfinite().all()


@pytest.mark.parametrize(
    'loss, channels',
    [
        (FusedFeatureKD('head'), 4),
        (TemporalRelationKD(2, 2, height=1, saliency='head'), 4),
        (PillarSaliencyKD(), 3),
        (PillarClassKD(), 3),
        (PillarBoxKD('head', code_weights=(1.0,) * 4, score_thr=0.0), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_gradients_and_half_precision(loss, channels):
    student, teacher = random(2, channels, 3, 4).requires_grad_(), random(2, channels, 3, 4, seed=1)
    heads = context(head=random(2, 2, 3, 4, seed=2))
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher, heads), student)
    half = loss(student.detach().bfloat16(), teacher.bfloat16(), context(head=heads.teacher['head'].bfloat16()))
    torch.testing.assert_close(half.double(), loss(student, teacher, heads).detach(), rtol=0.1, atol=0.05)
    teacher.requires_grad_()
    loss(student, teacher, heads).backward()
    assert teacher.grad is None
