"""Pillars and their pixels against plain loops; which axis of a map is which."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from camera_rig import rig_for_images

from perception3d.checks import InputError
from perception3d.models.bev_transformer.pillars import PillarGrid, project_points, view_pillars

HW = (64, 176)
GRID = PillarGrid(range_m=(-20.0, -10.0, 30.0, 20.0), shape=(10, 6), heights_m=(-1.5, 0.0, 1.0))


def slow_pillars() -> np.ndarray:
    """(Q, D, 3) by the definition: query y * X + x stands in the middle of cell (x, y)."""
    found = []
    for y in range(6):
        for x in range(10):
            found.append([(-20 + 5 * (x + 0.5), -10 + 5 * (y + 0.5), z) for z in (-1.5, 0.0, 1.0)])
    return np.array(found)


def test_points_stand_in_the_middle_of_their_cells() -> None:
    np.testing.assert_allclose(GRID.points('cpu').numpy(), slow_pillars(), atol=1e-5)


def test_the_released_heights_are_spread_over_eight_metres() -> None:
    heights = np.linspace(0.5, 7.5, 4) - 5
    np.testing.assert_allclose(PillarGrid().heights_m, heights)
    assert PillarGrid().range_m == (-51.2, -51.2, 51.2, 51.2)


def test_views_equal_a_loop_over_cameras_and_pillars() -> None:
    still = rig_for_images(HW)
    moved = np.eye(4)
    moved[:3, 3] = 2.0, -1.0, 0.2
    matrices = np.stack([still, still @ moved])
    views = view_pillars(GRID, matrices, HW, HW, 'cpu')
    count = np.zeros((2, 60), int)
    for b in range(2):
        for n in range(6):
            seen = []
            for q, points in enumerate(slow_pillars()):
                pixels = [matrices[b, n] @ [*p, 1] for p in points]
                places = [(u / d, v / d, d) for u, v, d, _ in pixels]
                if any(d > 0 and 0 < u < HW[1] and 0 < v < HW[0] for u, v, d in places):
                    seen.append((q, [(u / HW[1], v / HW[0]) for u, v, d in places], [d for _, _, d in places]))
                    count[b, q] += 1
            valid = views.valid[b, n]
            assert views.queries[b, n][valid].tolist() == [q for q, _, _ in seen]
            for row, (_, places, depths) in enumerate(seen):
                for d in range(3):
                    if depths[d] > 0:
                        expected = np.clip(places[d], -1, 2)
                        np.testing.assert_allclose(views.points[b, n, row, d].numpy(), expected, atol=2e-4)
    assert views.cameras.tolist() == count.tolist()
    assert count.max() == 2 and (count == 0).any()
    # Padding reads nothing.
    assert (
        not views.valid.all() and (views.points[~views.valid] == -1).all() and (views.queries[~views.valid] == 0).all()
    )


def test_points_behind_a_camera_are_not_seen_and_stay_finite() -> None:
    matrix = np.eye(4)[None, None]
    matrix[..., :3, :3] = [[50, 88, 0], [0, 32, -50], [0, 1, 0]]
    points = torch.tensor([[[0.0, 5.0, 0.0]], [[0.0, -5.0, 0.0]], [[0.0, 0.0, 0.0]]])
    pixels, depth = project_points(points, torch.from_numpy(matrix).float())
    assert depth[0, 0, :, 0].tolist() == [5, -5, 0]
    assert pixels[0, 0, 0, 0].tolist() == [88, 32] and pixels.isfinite().all()
    grid = PillarGrid((-10, -10, 10, 10), (1, 2), (0.0,))
    views = view_pillars(grid, matrix, HW, HW, 'cpu')
    assert views.cameras.tolist() == [[0, 1]]


def test_pillars_seen_in_the_padding_alone_are_not_seen() -> None:
    matrices = rig_for_images(HW)[None]
    whole = view_pillars(GRID, matrices, HW, HW, 'cpu')
    padded = view_pillars(GRID, matrices, (HW[0] + 32, HW[1] + 32), HW, 'cpu')
    assert torch.equal(whole.cameras, padded.cameras)
    inside = whole.valid[..., None, None] & (whole.points > 0) & (whole.points < 1)
    ratio = torch.tensor([HW[1] / (HW[1] + 32), HW[0] / (HW[0] + 32)])
    torch.testing.assert_close((whole.points * ratio)[inside], padded.points[inside])


def test_a_camera_that_sees_nothing_is_not_an_error() -> None:
    blind = np.zeros((1, 1, 4, 4))
    blind[..., 2, 3] = -1
    views = view_pillars(GRID, blind, HW, HW, 'cpu')
    assert views.queries.shape == (1, 1, 1) and not views.valid.any() and views.cameras.sum() == 0


def test_axis_two_of_a_map_is_x_and_axis_three_is_y() -> None:
    queries = torch.arange(2 * 60.0 * 3).view(2, 60, 3)
    bev = GRID.to_map(queries)
    assert bev.shape == (2, 3, 10, 6)
    for x, y in ((0, 0), (9, 0), (0, 5), (7, 2)):
        assert torch.equal(queries[:, y * 10 + x], bev[:, :, x, y])
        center = GRID.points('cpu')[y * 10 + x, 0, :2]
        assert center.tolist() == [-20 + 5 * (x + 0.5), -10 + 5 * (y + 0.5)]


def test_ranges_that_make_no_grid_are_named() -> None:
    with pytest.raises(InputError, match='x0 < x1'):
        PillarGrid(range_m=(10, 0, -10, 5))
    with pytest.raises(InputError, match='range_m'):
        PillarGrid(range_m=(-10, -10, -5, 10, 10, 3))
    with pytest.raises(InputError, match='heights_m'):
        PillarGrid(heights_m=())
