"""Voxels of a batch: cells, features and labels against plain loops."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from seg_parts import GRID, cloud, labels, partition

from perception3d.checks import InputError
from perception3d.models.lidar_seg.voxels import CylinderPartition, voxelise
from perception3d.registry import TASK_UTILS
from perception3d.structures.point_labels import IGNORE

LOW, HIGH = np.array([0, -math.pi, -3]), np.array([10, math.pi, 2])


def _cylinder(**settings):
    return TASK_UTILS.build(partition(**settings))


def _loop(points):
    """Cells and features of each point, by the rule of the released code, in numpy."""
    size = (HIGH - LOW) / (np.array(GRID) - 1)
    cells, features = [], []
    for x, y, z, intensity in points.numpy():
        polar = np.array([np.sqrt(x * x + y * y), np.arctan2(y, x), z])
        cell = np.floor((np.clip(polar, LOW, HIGH) - LOW) / size).astype(int)
        centre = (cell + 0.5) * size + LOW
        cells.append(cell)
        features.append([*(polar - centre), *polar, x, y, intensity])
    return np.array(cells), np.array(features)


def test_cells_and_features_are_those_of_the_published_rule():
    points = cloud()
    cells, features = _cylinder().cells_of(points)
    wanted_cells, wanted = _loop(points)
    assert np.array_equal(cells.numpy(), wanted_cells)
    assert np.allclose(features.numpy(), wanted, atol=1e-5)
    # Points outside are in the cells of the border, and the last cell of an axis has only these.
    outside = points[:, :2].norm(dim=1) >= 10
    assert 0 < int(outside.sum()) < len(points)
    assert torch.equal(cells[:, 0] == GRID[0] - 1, outside)


def test_a_grid_of_the_paper_has_its_cells():
    grid = CylinderPartition()
    assert np.allclose(grid.size, [0.1044, 0.0175, 0.1935], atol=5e-5)
    cells, _ = grid.cells_of(torch.tensor([[50.0, 0, 2, 0], [49.99, 0, 1.99, 0], [-90.0, 0, -9, 0], [0, 0, 0, 0]]))
    assert cells.tolist() == [[479, 179, 31], [478, 179, 30], [479, 359, 0], [0, 179, 20]]


def test_an_arithmetic_partition_has_smaller_cells_where_points_are_dense():
    grid = _cylinder(rho_partition='arithmetic', first_rho_m=0.2)
    cells = torch.tensor([[k, 0, 0] for k in range(GRID[0])])
    borders = grid.outer_distance_m(cells, torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)).double().numpy()
    widths = np.diff(np.append(0.0, borders))
    assert np.isclose(widths[0], 0.2) and np.allclose(np.diff(widths), np.diff(widths)[0], atol=1e-5)
    assert np.isclose(borders[-2], 10)
    rho = torch.linspace(0, 11, 45)
    found, features = grid.cells_of(torch.stack([rho, 0 * rho, 0 * rho, 0 * rho], 1))
    wanted = [min(int((borders <= r + 1e-6).sum()), GRID[0] - 1) for r in rho.double().tolist()]
    assert found[:, 0].tolist() == wanted
    centres = rho - features[:, 0]
    assert np.allclose(centres, (borders - widths / 2)[found[:, 0].numpy()], atol=1e-5)


def test_voxels_do_not_depend_on_the_order_of_points():
    grid, clouds, given = _cylinder(), [cloud(300, 0), cloud(200, 1)], [labels(300, 0), labels(200, 1)]
    order = [torch.randperm(len(points)) for points in clouds]
    one = voxelise(grid, clouds, given)
    two = voxelise(grid, [c[o] for c, o in zip(clouds, order)], [v[o] for v, o in zip(given, order)])
    assert torch.equal(one.coords, two.coords) and torch.equal(one.voxel_labels, two.voxel_labels)
    shuffled = torch.cat([order[0], order[1] + 300])
    assert torch.equal(one.point_to_voxel[shuffled], two.point_to_voxel)
    assert one.coords.dtype == torch.int32 and one.point_counts == (300, 200) and one.batch_size == 2
    # Sorted, each voxel once, and each point in the voxel of its cell.
    keys = [tuple(row) for row in one.coords.tolist()]
    assert keys == sorted(set(keys))
    cells = torch.cat([one.point_batch[:, None], grid.cells_of(torch.cat(clouds))[0]], 1)
    assert torch.equal(one.coords[one.point_to_voxel].long(), cells)
    assert one.point_batch.tolist() == [0] * 300 + [1] * 200
    assert torch.allclose(one.outer_distance_m, (one.coords[:, 1] + 1) * 10 / 19)


@pytest.mark.parametrize('ignore_wins', [False, True])
def test_a_voxel_has_the_label_of_most_points(ignore_wins):
    points, given = cloud(600), labels(600, 3)
    batch = voxelise(_cylinder(), [points], [given], ignore_wins)
    ties = 0
    for row, label in enumerate(batch.voxel_labels.tolist()):
        counts = Counter(given[batch.point_to_voxel == row].tolist())
        most = max(counts.values())
        best = sorted(name for name, count in counts.items() if count == most)
        ties += len(best) > 1 and IGNORE in best
        assert label == (IGNORE if ignore_wins and IGNORE in best else best[0])
    assert ties > 5
    everything_ignored = voxelise(_cylinder(), [points], [torch.full((600,), IGNORE)])
    assert everything_ignored.voxel_labels.unique().tolist() == [IGNORE]


def test_a_partition_that_cannot_be_is_refused():
    with pytest.raises(InputError, match='2 or more cells'):
        CylinderPartition(grid_shape=(480, 1, 32))
    with pytest.raises(InputError, match='not below high'):
        CylinderPartition(low=(0, 0, 3), high=(50, 3, 2))
    with pytest.raises(InputError, match="did you mean 'arithmetic'"):
        CylinderPartition(rho_partition='arithmetics')
    with pytest.raises(InputError, match='up to 0.1044 m'):
        CylinderPartition(rho_partition='arithmetic', first_rho_m=0.2)
    with pytest.raises(InputError, match=r'3 columns.*reads column 3'):
        _cylinder().cells_of(torch.zeros(1, 3))
