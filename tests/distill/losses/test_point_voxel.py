"""The four losses of point-to-voxel distillation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from voxel_batches import CLASSES, MINORITY, context_of, random_batch, rows

from perception3d.checks import InputError
from perception3d.distill.losses.point_voxel import (
    PointAffinityKD,
    PointOutputKD,
    VoxelAffinityKD,
    VoxelOutputKD,
    affinity_loss,
    output_loss,
)
from perception3d.distill.losses.supervoxels import RowSets
from perception3d.registry import MODELS
from perception3d.structures.point_labels import IGNORE

DRAWN = dict(classes=CLASSES, minority=MINORITY, draws=3, num_points=16, num_voxels=12)
LOSSES = {
    'point': dict(type=PointOutputKD),
    'point reverse': dict(type=PointOutputKD, direction='reverse', tau=2.0),
    'point grid': dict(type=PointOutputKD, normalizer='grid', skip_ignored=True),
    'voxel': dict(type=VoxelOutputKD, skip_ignored=True),
    'voxel grid': dict(type=VoxelOutputKD, normalizer='grid'),
    'point affinity': dict(type=PointAffinityKD, supervoxels=DRAWN),
    'point affinity zeros': dict(type=PointAffinityKD, supervoxels=DRAWN, padding='zeros'),
    'voxel affinity': dict(type=VoxelAffinityKD, supervoxels=DRAWN),
}


def count_of(name, batch):
    return len(batch.point_batch) if name.startswith('point') else len(batch.coords)


def softmax(values):
    raised = [math.exp(v) for v in values]
    return [r / sum(raised) for r in raised]


@pytest.mark.parametrize('direction', ['forward', 'reverse'])
@pytest.mark.parametrize('total', [None, 50])
@pytest.mark.parametrize('masked', [False, True])
def test_output_loss_is_that_of_a_slow_loop(direction, total, masked) -> None:
    student, teacher = rows(0, 9, 4, torch.float64), rows(1, 9, 4, torch.float64)
    counted = torch.arange(9) % 3 > 0 if masked else None
    terms = []
    for n in range(9):
        if masked and not counted[n]:
            continue
        p, q = (softmax((side[n] / 2).tolist()) for side in (teacher, student))
        if direction == 'reverse':
            p, q = q, p
        terms.append(4 * sum(a * math.log(a / b) for a, b in zip(p, q)))
    loss = output_loss(student, teacher, 2.0, direction, counted, total)
    assert float(loss) == pytest.approx(sum(terms) / (total or len(terms)), rel=1e-9)


def test_the_literal_scale_of_voxels_is_the_mean_over_all_cells_and_classes() -> None:
    batch = random_batch()
    student, teacher = rows(0, len(batch.coords), 4), rows(1, len(batch.coords), 4)
    dense = []
    for side in (student, teacher):
        grid = torch.zeros(2, *batch.grid_shape, 4)
        grid[tuple(batch.coords.long().T)] = side
        dense.append(grid.flatten(0, -2))
    expected = F.kl_div(dense[0].log_softmax(1), dense[1].softmax(1), reduction='none').mean()
    literal = VoxelOutputKD(normalizer='grid')(student, teacher, context_of(batch))
    torch.testing.assert_close(literal, expected)
    active = VoxelOutputKD()(student, teacher, context_of(batch))
    assert float(active / literal) == pytest.approx(2 * 8 * 12 * 4 * 4 / len(batch.coords), rel=1e-4)


def test_the_literal_scale_of_points_is_the_mean_over_points_and_classes() -> None:
    batch = random_batch()
    student, teacher = rows(0, 240, 4), rows(1, 240, 4)
    expected = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction='none').mean()
    torch.testing.assert_close(PointOutputKD(normalizer='grid')(student, teacher, context_of(batch)), expected)


@pytest.mark.parametrize('kind', [PointOutputKD, VoxelOutputKD])
def test_ignored_rows_are_left_out_where_that_is_set(kind) -> None:
    batch = random_batch()
    labels = batch.point_labels if kind is PointOutputKD else batch.voxel_labels
    student, teacher = rows(0, len(labels), 4), rows(1, len(labels), 4)
    kept = labels != IGNORE
    loss = kind(skip_ignored=True)(student, teacher, context_of(batch))
    torch.testing.assert_close(loss, output_loss(student[kept], teacher[kept]))
    assert 0 < kept.sum() < len(kept) and loss != kind()(student, teacher, context_of(batch))


@pytest.mark.parametrize('padding', ['masked', 'zeros'])
def test_affinity_loss_is_that_of_a_slow_loop(padding) -> None:
    student, teacher = rows(0, 10, 3, torch.float64), rows(1, 10, 5, torch.float64)
    sets = RowSets(
        torch.tensor([[4, 9, 1], [7, 2, 0], [0, 0, 0]]),
        torch.tensor([[True, True, True], [True, True, False], [False, False, False]]),
    )
    terms = []
    for chosen in ([4, 9, 1], [7, 2], []):
        squares = [
            (float(F.cosine_similarity(student[i], student[j], 0) - F.cosine_similarity(teacher[i], teacher[j], 0)))
            ** 2
            for i in chosen
            for j in chosen
        ]
        terms.append((sum(squares), len(squares)))
    if padding == 'zeros':
        expected = sum(total for total, _ in terms) / (3 * 3 * 3)
    else:
        expected = sum(total / number for total, number in terms if number) / 2
    assert float(affinity_loss(student, teacher, sets, padding)) == pytest.approx(expected, rel=1e-9)


def test_padding_with_zeros_is_that_of_rows_of_zeros() -> None:
    student, teacher = rows(0, 5, 3, torch.float64), rows(1, 5, 3, torch.float64)
    short = RowSets(torch.tensor([[3, 1, 0, 0]]), torch.tensor([[True, True, False, False]]))
    full = RowSets(torch.tensor([[3, 1, 5, 5]]), torch.ones(1, 4, dtype=torch.bool))
    padded = [F.pad(side, (0, 0, 0, 1)) for side in (student, teacher)]
    expected = affinity_loss(*padded, full, 'masked')
    torch.testing.assert_close(affinity_loss(student, teacher, short, 'zeros'), expected)
    # Neutral where padding is masked: as if the set had only the rows that exist.
    exact = RowSets(torch.tensor([[3, 1]]), torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(affinity_loss(student, teacher, short), affinity_loss(student, teacher, exact))


def test_larger_sets_than_a_supervoxel_has_rows_change_nothing() -> None:
    batch = random_batch()
    student, teacher = rows(0, 240, 6), rows(1, 240, 8)
    losses = [PointAffinityKD(DRAWN | dict(num_points=size))(student, teacher, context_of(batch)) for size in (60, 240)]
    torch.testing.assert_close(*losses)
    zeros = PointAffinityKD(DRAWN | dict(num_points=240), padding='zeros')(student, teacher, context_of(batch))
    assert 0 < zeros < losses[0] / 10


def test_order_and_length_of_rows_do_not_matter_for_affinities() -> None:
    batch = random_batch(counts=(150,))
    loss = PointAffinityKD(DRAWN | dict(num_points=150))
    student, teacher = rows(0, 150, 6), rows(1, 150, 8)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    mixed = replace(batch, point_to_voxel=batch.point_to_voxel[order], point_labels=batch.point_labels[order])
    expected = loss(student, teacher, context_of(batch))
    torch.testing.assert_close(loss(student[order], teacher[order], context_of(mixed)), expected)
    torch.testing.assert_close(loss(100 * student, 0.01 * teacher, context_of(batch)), expected)


@pytest.mark.parametrize('name', LOSSES)
def test_only_the_student_gets_a_gradient_and_equal_outputs_none(name) -> None:
    batch = random_batch()
    loss = MODELS.build(LOSSES[name])
    student = rows(0, count_of(name, batch), 5).requires_grad_()
    teacher = rows(1, count_of(name, batch), 5).requires_grad_()
    value = loss(student, teacher, context_of(batch))
    value.backward()
    assert value.shape == () and value > 0
    assert student.grad.isfinite().all() and student.grad.any() and teacher.grad is None
    student.grad = None
    value = loss(student, student.detach().clone(), context_of(batch))
    value.backward()
    assert abs(value.item()) < 1e-9 and student.grad.abs().max() < 1e-6
    assert not list(loss.state_dict())


@pytest.mark.parametrize('name', LOSSES)
def test_gradient_is_that_of_finite_differences(name) -> None:
    batch = random_batch(counts=(9, 6), grid_shape=(2, 2, 1))
    number = count_of(name, batch)
    loss, teacher = MODELS.build(LOSSES[name]), rows(1, number, 3, torch.float64)
    student = rows(0, number, 3, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, context_of(batch)), student, atol=1e-7)


@pytest.mark.parametrize('kind', [PointAffinityKD, VoxelAffinityKD])
def test_dead_features_have_a_finite_loss_and_gradient(kind) -> None:
    batch = random_batch()
    number = len(batch.point_batch) if kind is PointAffinityKD else len(batch.coords)
    student = torch.zeros(number, 4, requires_grad=True)
    loss = kind(DRAWN)(student, rows(1, number, 4), context_of(batch))
    loss.backward()
    assert loss > 0 and student.grad.isfinite().all()


def test_all_losses_of_a_step_use_one_draw() -> None:
    batch = random_batch()
    context = context_of(batch)
    PointAffinityKD(DRAWN)(rows(0, 240, 4), rows(1, 240, 4), context)
    number = len(batch.coords)
    VoxelAffinityKD(dict(DRAWN))(rows(0, number, 4), rows(1, number, 4), context)
    assert len(context._shared) == 1


def test_points_are_compared_without_voxels_of_the_student_and_voxels_are_not() -> None:
    batch = random_batch()
    student, teacher = rows(0, 240, 4), rows(1, 240, 4)
    other = random_batch(grid_shape=(4, 6, 4))
    for loss in (PointOutputKD(skip_ignored=True), PointAffinityKD(DRAWN)):
        expected = loss(student, teacher, context_of(batch))
        for context in (context_of(None, batch), context_of(other, batch)):
            assert torch.equal(loss(student, teacher, context), expected)
    number = len(batch.coords)
    with pytest.raises(InputError, match="the student's batch has none: .*or compare points"):
        VoxelOutputKD()(rows(0, number, 4), rows(1, number, 4), context_of(None, batch))
    with pytest.raises(InputError, match=f'the student has {len(other.coords)} voxels and the teacher {number}'):
        VoxelOutputKD()(rows(0, number, 4), rows(1, number, 4), context_of(other, batch))
    equal = replace(batch, coords=batch.coords.clone())
    assert VoxelOutputKD()(rows(0, number, 4), rows(1, number, 4), context_of(batch, equal)) > 0


def test_points_may_learn_from_the_voxels_of_the_teacher() -> None:
    batch = random_batch()
    student, teacher = rows(0, 240, 4), rows(1, len(batch.coords), 4)
    loss = PointOutputKD(teacher_of='voxel', tau=2.0)
    expected = output_loss(student, torch.stack([teacher[voxel] for voxel in batch.point_to_voxel]), 2.0)
    torch.testing.assert_close(loss(student, teacher, context_of(None, batch)), expected)
    with pytest.raises(InputError, match=r'teacher gives \(240, 4\) for .* voxels: tap its voxel_logits'):
        loss(student, rows(1, 240, 4), context_of(batch))


def test_outputs_that_are_not_rows_of_the_batch_are_errors() -> None:
    batch = random_batch()
    with pytest.raises(InputError, match=r'student gives \(7, 4\) .*rows \(240, C\).*tap point_logits'):
        PointOutputKD()(rows(0, 7, 4), rows(1, 240, 4), context_of(batch))
    with pytest.raises(InputError, match=r'teacher NoneType: expected rows'):
        VoxelOutputKD()(rows(0, len(batch.coords), 4), None, context_of(batch))
    with pytest.raises(InputError, match=r'\(240, 4\).*\(240, 5\).*LinearAdapter'):
        PointOutputKD()(rows(0, 240, 4), rows(1, 240, 5), context_of(batch))


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(type=PointOutputKD, tau=0.0), 'tau must be above 0'),
        (dict(type=PointOutputKD, direction='forwards'), "did you mean 'forward'"),
        (dict(type=VoxelOutputKD, normalizer='gird'), "did you mean 'grid'"),
        (dict(type=PointAffinityKD, supervoxels=DRAWN, padding='mask'), "did you mean 'masked'"),
    ],
)
def test_invalid_settings_are_errors(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        MODELS.build(settings)
