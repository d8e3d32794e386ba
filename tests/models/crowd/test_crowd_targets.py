"""Targets of crowd heads against loops over people and cells, CenterPoint's against mmdet3d's."""

from __future__ import annotations

import math

import pytest
import torch
from crowd_parts import RANGE_M, instances_of, people_boxes
from mmdet3d.models.dense_heads import CenterHead

from perception3d.models.crowd import people as people_module
from perception3d.models.crowd.boxes import decode, encode, rows_at
from perception3d.models.crowd.maps import MapGrid
from perception3d.models.crowd.people import gather_people, nearest_others
from perception3d.models.crowd.targets import (
    TargetRules,
    coarse_target,
    count_target,
    density_target,
    gate_prior,
    level_targets,
)

SHAPES = ((32, 32), (16, 16), (8, 8))
SIGMAS_M = TargetRules().sigmas_m
H = math.sqrt(2)


def grid_of(level=0):
    return MapGrid(RANGE_M, SHAPES[level])


@pytest.fixture(scope='module')
def crowd():
    """Two clouds of 14 and 5 people; two of the first and one of the second are ignored."""
    frames = [people_boxes(14, 1), people_boxes(5, 2)]
    labels = [torch.zeros(14, dtype=torch.long), torch.zeros(5, dtype=torch.long)]
    labels[0][[3, 8]] = -1
    labels[1][0] = -1
    return frames, labels, gather_people([instances_of(*pair) for pair in zip(frames, labels)], torch.device('cpu'))


def _cells(grid):
    """Yields row, column and the middle of each cell."""
    cell_x, cell_y = grid.cell_m
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            yield row, column, grid.range_m[0] + (column + 0.5) * cell_x, grid.range_m[1] + (row + 0.5) * cell_y


def _own_cell(box, grid):
    """Column and row of a person, None off the map."""
    cell_x, cell_y = grid.cell_m
    column, row = math.floor((box[0] - grid.range_m[0]) / cell_x), math.floor((box[1] - grid.range_m[1]) / cell_y)
    return (column, row) if 0 <= column < grid.shape[1] and 0 <= row < grid.shape[0] else None


def _slow_heatmap(boxes, drawn, others, grid, level):
    """The heatmap of the boxes `drawn`, whose kernels follow the distance to `others`: cell by cell, box by box."""
    cell_x, cell_y = grid.cell_m
    boxes = boxes.tolist()
    heat = [[0.0] * grid.shape[1] for _ in range(grid.shape[0])]
    for i in drawn:
        place = _own_cell(boxes[i], grid)
        if place is None:
            continue
        gaps = [math.dist(boxes[i][:2], boxes[j][:2]) for j in others if j != i] if i in others else []
        least, most = SIGMAS_M[level]
        sigma = min(max(0.42 * min(gaps, default=math.inf), least), most)
        for row, column, _, _ in _cells(grid):
            square = ((column - place[0]) * cell_x) ** 2 + ((row - place[1]) * cell_y) ** 2
            heat[row][column] = max(heat[row][column], math.exp(-square / (2 * sigma * sigma)))
    return torch.tensor(heat)


@pytest.mark.parametrize('level', [0, 1, 2])
def test_heatmaps_weights_and_ignored_cells_equal_a_slow_reference(crowd, level):
    frames, labels, people = crowd
    grid = grid_of(level)
    found = level_targets(people, grid, TargetRules(), level)
    weights, positives = [], []
    for k, (boxes, own) in enumerate(zip(frames, labels)):
        known, ignored = [torch.nonzero(own == label).flatten().tolist() for label in (0, -1)]
        heat = _slow_heatmap(boxes, known, known, grid, level)
        assert torch.allclose(found.heatmap[k, 0], heat, atol=1e-5)
        near = _slow_heatmap(boxes, ignored, [], grid, level) > math.exp(-2)
        assert torch.equal(found.ignored[k, 0], near & (heat < 1)) and near.any()
        places = boxes[known, :2].tolist()
        count = [max(1, sum(math.dist((x, y), place) <= 3 for place in places)) for _, _, x, y in _cells(grid)]
        weights.append(torch.tensor(count, dtype=torch.float32).view(grid.shape))
        positives.append(heat == 1)
    weights, positives = torch.stack(weights), torch.stack(positives)
    expected = weights / weights[positives].mean() * ~found.ignored[:, 0]
    assert torch.allclose(found.weight[:, 0], expected, rtol=1e-5)
    # Ignored people are never negatives: their own cells have no loss, or belong to someone else.
    column, row, inside = grid.cells_of(people.xy)
    own = inside & people.ignored
    sample = torch.arange(2)[:, None].expand_as(own)[own]
    cells = sample, row[own], column[own]
    assert len(sample) and ((found.weight[:, 0][cells] == 0) | positives[cells]).all()


def test_density_counts_people_and_equals_a_slow_reference(crowd):
    frames, labels, people = crowd
    grid = grid_of()
    density, unknown = density_target(people, grid)
    for k, (boxes, own) in enumerate(zip(frames, labels)):
        for row, column, x, y in list(_cells(grid))[::7]:
            parts = [math.exp(-(math.dist((x, y), box[:2]) ** 2) / (2 * H * H)) for box in boxes.tolist()]
            wanted = sum(part for part, label in zip(parts, own) if label == 0)
            assert abs(float(density[k, 0, row, column]) - wanted) < 1e-4
            ignored = max(part for part, label in zip(parts, own) if label == -1)
            assert bool(unknown[k, 0, row, column]) == (ignored > math.exp(-2))
    # Integral / (2 pi h^2) = number of people, on a map that holds them wholly.
    wide = MapGrid((-20.0, -20.0, 30.0, 20.0), (160, 200))
    total = density_target(people, wide)[0].sum((1, 2, 3)) * 0.25 * 0.25 / (2 * math.pi * H * H)
    assert torch.allclose(total, people.known.sum(1).float(), rtol=1e-3)


def test_density_by_the_third_nearest_equals_a_slow_reference(monkeypatch):
    frames = [people_boxes(9, 1), people_boxes(2, 2), torch.zeros(0, 9)]
    people = gather_people([instances_of(frame) for frame in frames], torch.device('cpu'))
    grid = grid_of(1)
    density, _ = density_target(people, grid, 'knn')
    for k, boxes in enumerate(frames):
        for row, column, x, y in _cells(grid):
            near = sorted(math.dist((x, y), box[:2]) for box in boxes.tolist())[:3]
            wanted = 4 * len(near) / max(near[-1], 0.5) ** 2 if near else 0
            assert abs(float(density[k, 0, row, column]) - wanted) < 1e-4 * max(1, wanted)
    monkeypatch.setattr(people_module, '_CHUNK', 2 * len(frames) * 16 * 16)
    assert torch.equal(density_target(people, grid, 'knn')[0], density)


def test_coarse_cells_counts_and_relations_equal_slow_references(crowd):
    frames, labels, people = crowd
    grid = grid_of(2)
    occupied, unknown = coarse_target(people, grid, 1.5)
    counts = count_target(people, grid)
    distance, vector = nearest_others(people)
    for k, (boxes, own) in enumerate(zip(frames, labels)):
        for row, column, x, y in _cells(grid):
            known, ignored = [
                any(math.dist((x, y), box[:2]) <= 1.5 for box, value in zip(boxes.tolist(), own) if value == label)
                for label in (0, -1)
            ]
            assert bool(occupied[k, 0, row, column]) == known
            assert bool(unknown[k, 0, row, column]) == (ignored and not known)
            inside = [_own_cell(box, grid) == (column, row) for box, value in zip(boxes.tolist(), own) if value == 0]
            assert float(counts[k, 0, row, column]) == sum(inside)
        for i in torch.nonzero(own == 0).flatten().tolist():
            gaps = {j: math.dist(boxes[i, :2], boxes[j, :2]) for j in range(len(own)) if j != i and own[j] == 0}
            nearest = min(gaps, key=gaps.get)
            assert abs(float(distance[k, i]) - gaps[nearest]) < 1e-5
            assert torch.allclose(vector[k, i], boxes[nearest, :2] - boxes[i, :2], atol=1e-6)


def test_gates_favour_fine_levels_where_it_is_dense():
    density = torch.tensor([0.5, 1.0, 2.5, 5.0, 9.0]).view(1, 1, 1, 5)
    prior = gate_prior(density, TargetRules())[0, :, 0]
    assert prior.argmax(0).tolist() == [2, 2, 1, 0, 0] and torch.allclose(prior.sum(0), torch.ones(5))
    part = [math.exp(-((math.log(3.5) - math.log(1 + d)) ** 2) / 0.5) for d in (5, 2.5, 1)]
    assert torch.allclose(prior[:, 2], torch.tensor(part) / sum(part))


@pytest.mark.parametrize('stride', [1, 2, 4])
def test_fixed_kernels_and_codes_are_those_of_center_point(stride):
    shape = (64 // stride, 64 // stride)
    grid = MapGrid(RANGE_M, shape)
    boxes = people_boxes(20, 4)
    # mmdet3d rounds towards zero: it takes people up to a cell below the edge for people of the first cell.
    boxes = boxes[(boxes[:, 0] > 0) & (boxes[:, 1] > RANGE_M[1])]
    people = gather_people([instances_of(boxes)], torch.device('cpu'))
    rules = TargetRules(kernel='fixed', weighted=False)
    size = [*grid.cell_m, 6]
    reference = CenterHead(
        in_channels=8,
        tasks=[dict(num_class=1, class_names=['person'])],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
        bbox_coder=dict(
            type='CenterPointBBoxCoder', pc_range=RANGE_M[:2], out_size_factor=1, voxel_size=size[:2], code_size=9
        ),
        separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3),
        train_cfg=dict(
            grid_size=[*shape, 1],
            point_cloud_range=[*RANGE_M[:2], -4, *RANGE_M[2:], 2],
            voxel_size=size,
            out_size_factor=1,
            dense_reg=1,
            gaussian_overlap=0.1,
            max_objs=50,
            min_radius=2,
        ),
    )
    heat, codes, index, mask = (part[0] for part in reference.get_targets_single(instances_of(boxes)))
    found = level_targets(people, grid, rules, 0)
    assert torch.allclose(found.heatmap[0], heat, atol=1e-6) and (found.weight == 1).all()
    own, cells, inside = encode(people, grid)
    assert torch.equal(inside[0], mask[: len(boxes)].bool())
    assert torch.equal(cells[inside], index[: len(boxes)][inside[0]])
    codes = codes[: len(boxes)][inside[0]]
    # Offsets count from the middle of a cell here, from its corner there.
    codes[:, :2] -= 0.5
    assert torch.allclose(own[inside], codes, atol=1e-5, equal_nan=True)


def test_boxes_survive_encoding():
    people = gather_people([instances_of(people_boxes(12, 3))], torch.device('cpu'))
    grid = grid_of()
    codes, cells, inside = encode(people, grid)
    maps = torch.zeros(1, 10, 32, 32)
    maps[0, :, cells[0] // 32, cells[0] % 32] = codes[0].nan_to_num(nan=0).T
    # Of two people in a cell the map has one: the cells of these differ.
    assert len(set(cells[inside].tolist())) == inside.sum() > 5
    got = decode(rows_at(maps, cells), cells, grid)[inside]
    assert torch.allclose(got, people.boxes[inside].nan_to_num(nan=0), atol=1e-5)


def test_a_crowd_of_500_an_empty_cloud_and_broken_boxes(monkeypatch):
    broken = people_boxes(4, 5)
    broken[0, 0], broken[1, 3] = torch.nan, 0
    frames = [people_boxes(500, 6), torch.zeros(0, 7), broken, people_boxes(1, 7)[:, :7]]
    people = gather_people([instances_of(frame) for frame in frames], torch.device('cpu'))
    assert people.known.sum(1).tolist() == [500, 0, 2, 1] and people.boxes[3, 0, 7:].isnan().all()
    whole = level_targets(people, grid_of(), TargetRules(), 0)
    assert whole.heatmap[1].sum() == 0 and whole.weight.isfinite().all()
    assert density_target(people, grid_of())[0][1].sum() == 0
    # In small parts, as on a map for which memory is short.
    monkeypatch.setattr(people_module, '_CHUNK', 7 * len(frames) * 32 * 32)
    for name, value in level_targets(people, grid_of(), TargetRules(), 0)._asdict().items():
        assert torch.equal(value, getattr(whole, name)), name
    nobody = gather_people([instances_of(torch.zeros(0, 9))], torch.device('cpu'))
    assert level_targets(nobody, grid_of(), TargetRules(), 0).heatmap.sum() == 0
