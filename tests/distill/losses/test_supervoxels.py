"""Which supervoxels are drawn, and which of their points and voxels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from voxel_batches import CLASSES, MINORITY, batch_of, context_of, random_batch

from perception3d.checks import InputError
from perception3d.distill.losses.supervoxels import (
    SupervoxelSampler,
    build_sampler,
    difficulty,
    draw_without_replacement,
    fixed_sets,
    supervoxel_of,
    supervoxel_size,
)
from perception3d.models.lidar_seg.range_partition import RangePartition
from perception3d.models.lidar_seg.voxels import CubePartition, CylinderPartition, voxelise
from perception3d.structures.point_labels import IGNORE


def sampler(**settings):
    return SupervoxelSampler(CLASSES, MINORITY, **settings)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one_per_ring(labels=(0, 0, 0, 0)):
    """A batch with one point in each of four rings of eight cells."""
    cells = torch.tensor([[0, 0, 0], [2, 0, 0], [4, 0, 0], [6, 0, 0]])
    return batch_of(cells, torch.zeros(4, dtype=torch.long), torch.tensor(labels), (8, 1, 1))


def test_the_weight_of_a_class_is_that_of_the_table() -> None:
    weights = difficulty(torch.tensor([0, 1, 2, 3, 50]), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(
        1 / weights, torch.tensor([5.0, 1.5413, 1.0733, 1.0099, 1.0]).double(), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    'grid, size, expected, count',
    [
        ((480, 360, 32), None, (120, 60, 8), 96),
        ((480, 360, 32), (120, 60, 8), (120, 60, 8), 96),
        ((960, 480, 32), (120, 60, 8), (120, 60, 8), 256),
        ((120, 90, 16), None, (30, 15, 4), 96),
        ((48, 36, 8), None, (12, 6, 2), 96),
        ((100, 50, 10), (40, 60, 8), (40, 50, 8), 6),
    ],
)
def test_number_of_supervoxels(grid, size, expected, count) -> None:
    assert supervoxel_size(grid, size) == expected
    last = torch.tensor([[0, *(cells - 1 for cells in grid)], [3, 0, 0, 0]])
    index, per_sample = supervoxel_of(last, grid, expected)
    assert per_sample == count and index.tolist() == [count - 1, 0]


def test_every_voxel_is_in_the_block_of_its_indices() -> None:
    grid, size = (7, 5, 3), (3, 2, 2)
    cells = torch.cartesian_prod(*map(torch.arange, grid))
    index, per_sample = supervoxel_of(torch.cat([cells[:, :1] * 0, cells], 1), grid, size)
    blocks = sorted({(a // 3, b // 2, c // 2) for a, b, c in cells.tolist()})
    assert per_sample == len(blocks) == 3 * 3 * 2
    assert index.tolist() == [blocks.index((a // 3, b // 2, c // 2)) for a, b, c in cells.tolist()]


def test_distance_is_the_share_of_the_outer_arc() -> None:
    # Equal classes: P_i is proportional to d_i / R = 0.25, 0.5, 0.75, 1.
    chances, _ = sampler().probabilities(one_per_ring())
    torch.testing.assert_close(chances, torch.tensor([[0.25, 0.5, 0.75, 1.0]]).double() / 2.5)
    # On another grid it is the largest distance of a voxel: (i + 1) / 2 metres in this batch.
    chances, _ = sampler().probabilities(replace(one_per_ring(), radial_axis=None))
    torch.testing.assert_close(chances, torch.tensor([[1.0, 3.0, 5.0, 7.0]]).double() / 16)


def test_each_partition_says_whether_its_cells_count_rings() -> None:
    # Behind, beside and ahead of the sensor: 8, 2 and 8 m away, labels of one class.
    points = torch.tensor([[-8.0, 0, 0], [0, 2, 0], [8, 0, 0]])
    cylinders = {'grid_shape': (11, 4, 2), 'high': (10.0, 3.2, 2.0), 'columns': ()}
    bounds = {'low': (-10, -10, -2), 'high': (10, 10, 2), 'columns': ()}
    for partition, axis in (
        (CylinderPartition(**cylinders), 0),
        (CylinderPartition(**cylinders, rho_partition='arithmetic', first_rho_m=0.5), None),
        (CubePartition(1.0, **bounds), None),
        (RangePartition((4, 16), 30, -30, columns=()), None),
    ):
        batch = voxelise(partition, [points], [torch.zeros(3, dtype=torch.long)])
        chances, cells = sampler(size=(1, 1, 1)).probabilities(batch)
        near, far = (chances[0, cells[batch.point_to_voxel[k]]] for k in (1, [0, 2]))
        assert batch.radial_axis == axis and (far > 1.5 * near).all()
        torch.testing.assert_close(far[0], far[1])


def test_minority_classes_raise_the_probability_and_each_part_has_a_switch() -> None:
    batch = one_per_ring(labels=(0, 2, IGNORE, 0))
    f_one = 4 * torch.exp(torch.tensor(-2.0, dtype=torch.float64)) + 1
    expected = torch.tensor([0.25 / 5, 0.5 / f_one, 0.75 / 5, 1 / 5]).double()
    torch.testing.assert_close(sampler().probabilities(batch)[0][0], expected / expected.sum())
    by_class = torch.tensor([1 / 5, 1 / f_one, 1 / 5, 1 / 5]).double()
    torch.testing.assert_close(sampler(by_distance=False).probabilities(batch)[0][0], by_class / by_class.sum())
    uniform = sampler(by_distance=False, by_class=False).probabilities(batch)[0]
    assert torch.equal(uniform, torch.full((1, 4), 0.25, dtype=torch.float64))
    labelled = sampler(by_distance=False, by_class=False, skip_ignored=True).probabilities(batch)[0]
    torch.testing.assert_close(labelled, torch.tensor([[1, 1, 0, 1]]).double() / 3)


def test_probabilities_of_a_sample_sum_to_one_and_are_zero_for_empty_supervoxels() -> None:
    batch = random_batch(counts=(150, 5))
    chances, cells = sampler().probabilities(batch)
    torch.testing.assert_close(chances.sum(1), torch.ones(2, dtype=torch.float64))
    filled = torch.zeros(chances.numel(), dtype=torch.bool)
    filled[cells] = True
    assert torch.equal(chances.flatten() > 0, filled) and not filled.all()


def test_a_drawing_without_replacement_follows_the_weights() -> None:
    weights = torch.tensor([0.5, 0.3, 0.0, 0.2], dtype=torch.float64)
    noise = torch.rand(40_000, 4, generator=seeded(), dtype=torch.float64)
    drawn = draw_without_replacement(weights.expand_as(noise), 2, noise)
    assert not (drawn == 2).any() and (drawn[:, 0] != drawn[:, 1]).all()
    first = torch.bincount(drawn[:, 0], minlength=4) / len(drawn)
    torch.testing.assert_close(first.double(), weights, atol=0.01, rtol=0)
    after_the_first = drawn[drawn[:, 0] == 0, 1]
    second = torch.bincount(after_the_first, minlength=4) / len(after_the_first)
    torch.testing.assert_close(second.double(), torch.tensor([0, 0.6, 0, 0.4]).double(), atol=0.015, rtol=0)


def test_fewer_supervoxels_than_draws_leave_empty_sets() -> None:
    drawn = sampler(draws=6, num_points=3, num_voxels=2).draw(one_per_ring(), seeded())
    assert sorted(drawn.blocks.flatten().tolist()) == [0, 1, 2, 3]  # the grid has four
    cells = torch.tensor([[0, 0, 0], [6, 0, 0]])
    batch = batch_of(cells, torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.long), (8, 1, 1))
    drawn = sampler(draws=3, num_points=3, num_voxels=2).draw(batch, seeded())
    assert sorted(drawn.blocks.flatten().tolist()) == [-1, 0, 3]
    assert drawn.points.mask.sum(1).tolist() == [1, 1, 0] and drawn.voxels.mask.sum(1).tolist() == [1, 1, 0]


@pytest.mark.parametrize('size', [1, 3, 8])
def test_sets_keep_minority_classes_first_as_a_slow_loop_does(size) -> None:
    generator = seeded(1)
    group = torch.randint(-1, 5, (60,), generator=generator)
    group[group == 3] = 2
    minority = torch.rand(60, generator=generator) < 0.3
    noise = torch.rand(60, generator=generator)
    sets = fixed_sets(group, minority, noise, 5, size)
    for g in range(5):
        members = [row for row in range(60) if group[row] == g]
        best = sorted(members, key=lambda row: (not minority[row], float(noise[row])))[:size]
        assert sets.rows[g][sets.mask[g]].tolist() == best
        assert sets.mask[g].sum() == min(len(members), size) and not sets.rows[g][~sets.mask[g]].any()


def test_a_set_has_rows_of_its_supervoxel_only() -> None:
    batch = random_batch()
    settings = sampler(num_points=8, num_voxels=6)
    drawn = settings.draw(batch, seeded())
    index, _ = supervoxel_of(batch.coords, batch.grid_shape, supervoxel_size(batch.grid_shape))
    for slot, block in enumerate(drawn.blocks.flatten().tolist()):
        sample = slot // settings.draws
        voxels = drawn.voxels.rows[slot][drawn.voxels.mask[slot]]
        points = batch.point_to_voxel[drawn.points.rows[slot][drawn.points.mask[slot]]]
        for rows in (voxels, points):
            assert len(rows) and (index[rows] == block).all() and (batch.coords[rows, 0] == sample).all()


def test_ignored_rows_can_be_left_out() -> None:
    batch = random_batch()
    for skip in (False, True):
        drawn = sampler(num_points=40, num_voxels=40, draws=20, skip_ignored=skip).draw(batch, seeded())
        for sets, labels in ((drawn.points, batch.point_labels), (drawn.voxels, batch.voxel_labels)):
            assert (labels[sets.rows[sets.mask]] == IGNORE).any() == (not skip)


def test_order_of_points_changes_neither_supervoxels_nor_voxels() -> None:
    batch = random_batch(counts=(150,))
    order = torch.randperm(150, generator=seeded())
    mixed = replace(batch, point_to_voxel=batch.point_to_voxel[order], point_labels=batch.point_labels[order])
    first, second = (sampler(num_points=64, num_voxels=8).draw(b, seeded()) for b in (batch, mixed))
    assert torch.equal(first.blocks, second.blocks)
    assert torch.equal(first.voxels.rows, second.voxels.rows)
    for g in range(4):
        points = [order[second.points.rows[g][second.points.mask[g]]], first.points.rows[g][first.points.mask[g]]]
        assert torch.equal(*(rows.sort().values for rows in points))


def test_one_draw_a_step_for_equal_settings_and_the_same_one_after_a_resume() -> None:
    batch = random_batch()
    settings = dict(classes=list(CLASSES), minority=list(MINORITY), num_points=8)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    context = context_of(batch, step=3)
    drawn = build_sampler(settings).shared_draw(context)
    assert build_sampler(dict(settings)).shared_draw(context) is drawn
    other = build_sampler(settings | dict(draws=5)).shared_draw(context)
    assert other is not drawn
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    resumed = build_sampler(settings).shared_draw(context_of(batch, step=3))
    assert torch.equal(resumed.points.rows, drawn.points.rows) and torch.equal(resumed.blocks, drawn.blocks)
    later = build_sampler(settings).shared_draw(context_of(batch, step=4))
    torch.manual_seed(8)
    reseeded = build_sampler(settings).shared_draw(context_of(batch, step=3))
    assert not any(torch.equal(x.points.rows, drawn.points.rows) for x in (later, reseeded))


def test_supervoxels_are_those_of_the_teacher_where_it_has_voxels() -> None:
    batch = random_batch()
    expected = sampler().shared_draw(context_of(batch)).points.rows
    for student in (None, random_batch(grid_shape=(4, 6, 4))):
        assert torch.equal(sampler().shared_draw(context_of(student, batch)).points.rows, expected)
    alone = replace(context_of(batch), teacher_inputs={'points': []})
    assert torch.equal(sampler().shared_draw(alone).points.rows, expected)
    with pytest.raises(InputError, match="neither the student's nor the teacher's batch has 'voxels'"):
        sampler().shared_draw(context_of(None))


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(classes=CLASSES, minority=('persn',)), "unknown minority class 'persn': did you mean 'person'"),
        (dict(classes=CLASSES, minority=MINORITY, draws=0), 'draws=0.*at least 1'),
        (dict(classes=CLASSES, minority=MINORITY, size=(1, 2)), 'three for the size'),
        (dict(classes=CLASSES, minority=MINORITY, count=3), 'expected the arguments of SupervoxelSampler.*count'),
    ],
)
def test_invalid_settings_are_errors(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        build_sampler(settings)


def test_a_batch_without_labels_is_an_error() -> None:
    batch = replace(random_batch(), voxel_labels=None, point_labels=None)
    with pytest.raises(InputError, match='no labels of its voxels.*LoadPointLabels'):
        sampler().draw(batch, seeded())
