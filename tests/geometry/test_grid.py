from __future__ import annotations

import numpy as np
import pytest

from perception3d.checks import InputError
from perception3d.geometry.grid import VoxelGrid


def test_points_are_the_lower_corners_that_fast_bev_samples():
    grid = VoxelGrid(range_m=(-50, -50, -4, 50, 50, 2), shape=(200, 200, 4))
    points = grid.points()
    assert points.shape == (200, 200, 4, 3)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points[0, 0, :, 2], [-4, -2.5, -1, 0.5])
    np.testing.assert_array_equal(points[[0, 1, 199], 0, 0, 0], [-50, -49.5, 49.5])
    np.testing.assert_array_equal(points[0, [0, 1, 199], 0, 1], [-50, -49.5, 49.5])


def test_points_equal_the_released_formula_about_the_centre():
    shape, size = np.array([150, 150, 6]), np.array([2 / 3, 2 / 3, 1.0])
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
    released = (index - shape / 2) * size + np.array([0, 0, -1.0])
    grid = VoxelGrid(range_m=(-50, -50, -4, 50, 50, 2), shape=tuple(shape))
    np.testing.assert_allclose(grid.points(), released, atol=1e-5)


def test_lists_from_a_config_make_the_same_grid():
    assert VoxelGrid([0, 0, 0, 1, 1, 1], [2, 2, 2]) == VoxelGrid((0.0, 0, 0, 1, 1, 1), (2, 2, 2))


@pytest.mark.parametrize(
    'range_m, shape',
    [
        ((0, 0, 0, 1, 1, -1), (1, 1, 1)),
        ((0, 0, 0, 1, 1, 1), (1, 0, 1)),
        ((0, 0, 0, 1, 1), (1, 1, 1)),
        ((0, 0, 0, 1, 1, 1), (1, 1)),
    ],
)
def test_an_impossible_grid_is_refused(range_m, shape):
    with pytest.raises(InputError, match='voxel grid'):
        VoxelGrid(range_m, shape)
