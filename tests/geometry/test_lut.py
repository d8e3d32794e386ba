from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from camera_rig import REAL_RIG_16X44, rig_for_images

from perception3d.checks import InputError
from perception3d.geometry import lut as lut_module
from perception3d.geometry.grid import VoxelGrid
from perception3d.geometry.lut import MapView, build_frames_lut, build_lut, find_overlaps, scale_to_features
from perception3d.ops.scatter import gather_rows, gather_rows_torch, scatter_add_rows

PUBLISHED_GRID = VoxelGrid((-50, -50, -4, 50, 50, 2), (128, 128, 6))
SMALL_GRID = VoxelGrid((-50, -50, -4, 50, 50, 2), (25, 30, 4))


def _candidates(projection, grid, feature_hw):
    """Slow reference: (C, X, Y, Z) flat index of every camera, -1 where it does not see the voxel."""
    points = np.pad(grid.points().reshape(-1, 3), ((0, 0), (0, 1)), constant_values=1)
    found = []
    for camera, matrix in enumerate(np.asarray(projection, np.float32)):
        with np.errstate(divide='ignore', invalid='ignore'):
            a, b, depth = matrix[:3] @ points.T
            u, v = np.round(a / depth), np.round(b / depth)
        seen = (u >= 0) & (u < feature_hw[1]) & (v >= 0) & (v < feature_hw[0]) & (depth > 0)
        u, v = np.where(seen, u, 0).astype(int), np.where(seen, v, 0).astype(int)
        found.append(np.where(seen, (camera * feature_hw[0] + v) * feature_hw[1] + u, -1))
    return np.stack(found).reshape(-1, *grid.shape)


# Counts: the authors' logs. Sums and hashes: an independent float32 computation from their projections.
@pytest.mark.parametrize(
    'scale, hw, valid, shared, priority, total, digest',
    [
        (1, (16, 44), 97274, 12222, 'first', 196895672, 'c490ee529239'),
        (1, (16, 44), 97274, 12222, 'last', 221146978, 'c6bc5fade59d'),
        (2, (32, 88), 97320, 12224, 'first', 783498286, '4adecbf08e80'),
        (2, (32, 88), 97320, 12224, 'last', 880402602, 'de0dc6b2239d'),
    ],
)
def test_the_table_is_the_published_one(scale, hw, valid, shared, priority, total, digest):
    projection = REAL_RIG_16X44.copy()
    projection[:, :2] *= scale
    table = build_lut(projection, PUBLISHED_GRID, hw, priority)
    assert table.dtype == np.int32
    assert (table >= 0).sum() == valid
    assert table[table >= 0].sum(dtype=np.int64) == total
    assert hashlib.sha1(np.ascontiguousarray(table)).hexdigest()[:12] == digest
    everyone = build_lut(projection, PUBLISHED_GRID, hw, 'mean')
    assert everyone.shape[-1] == 2
    assert (everyone[..., 1] >= 0).sum() == shared


# Voxels that some camera sees, and voxels on which first and last camera disagree, for M0, M1, M3, M4 and M5.
@pytest.mark.parametrize(
    'image_hw, shape, valid, differ',
    [
        ((256, 704), (200, 200, 4), 153336, 19159),
        ((320, 880), (200, 200, 4), 153337, 19155),
        ((256, 704), (200, 200, 6), 231202, 28915),
        ((320, 880), (250, 250, 6), 361240, 45239),
        ((512, 1408), (250, 250, 6), 361467, 45280),
    ],
)
def test_the_published_variants_see_as_many_voxels_as_they_should(image_hw, shape, valid, differ):
    grid = VoxelGrid((-50, -50, -4, 50, 50, 2), shape)
    feature_hw = (image_hw[0] // 4, image_hw[1] // 4)
    projection = scale_to_features(rig_for_images(image_hw), image_hw, feature_hw)
    last, first = (build_lut(projection, grid, feature_hw, priority) for priority in ('last', 'first'))
    assert abs(int((last >= 0).sum()) - valid) <= 5
    assert abs(int((last != first).sum()) - differ) <= 5


@pytest.mark.parametrize('priority', ['last', 'first'])
def test_kernel_and_torch_path_are_equal_and_agree_with_the_slow_reference(priority):
    found = _candidates(REAL_RIG_16X44, SMALL_GRID, (16, 44))
    order = found if priority == 'first' else found[::-1]
    expected = np.full(SMALL_GRID.shape, -1)
    for camera in order[::-1]:
        expected = np.where(camera >= 0, camera, expected)
    table = build_lut(REAL_RIG_16X44, SMALL_GRID, (16, 44), priority)
    # BLAS may sum in another order: a rounding on the border of two pixels may differ, hardly ever.
    assert (table != expected).sum() <= 3
    starts = np.arange(6)[None] * 16 * 44
    on_device = lut_module._frames_lut_torch(
        torch.from_numpy(REAL_RIG_16X44)[None], SMALL_GRID, (16, 44), priority, (16, 44), starts, None
    )
    np.testing.assert_array_equal(on_device[..., 0].numpy(), table)


def test_mean_lists_every_camera_that_sees_a_voxel_once():
    found = np.sort(_candidates(REAL_RIG_16X44, SMALL_GRID, (16, 44)), axis=0)[::-1]
    table = build_lut(REAL_RIG_16X44, SMALL_GRID, (16, 44), 'mean')
    mine = np.sort(table, axis=-1)[..., ::-1]
    expected = np.moveaxis(found, 0, -1)[..., : table.shape[-1]]
    assert (mine != expected).sum() <= 3
    assert ((table[..., :-1] >= 0) | (table[..., 1:] < 0)).all()


def test_halves_round_to_even_and_borders_are_closed_below_open_above():
    # u = x for a camera that looks along y from far behind, in voxels of half a pixel: x = -0.5 .. 3.5.
    grid = VoxelGrid((-0.5, 0, 0, 4, 1, 1), (9, 1, 1))
    projection = np.array([[[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]], np.float32)
    table = build_lut(projection, grid, (1, 3))[:, 0, 0]
    np.testing.assert_array_equal(table, [0, 0, 0, 1, 2, 2, 2, -1, -1])


def test_a_camera_sees_nothing_at_or_behind_its_centre():
    grid = VoxelGrid((-1, -1, -1, 1, 1, 1), (2, 2, 2))
    projection = np.zeros((1, 3, 4), np.float32)
    for depth, expected in ((1, 0), (0, -1), (-1, -1)):
        projection[0, 2, 3] = depth
        assert (build_lut(projection, grid, (2, 2)) == expected).all()


def test_padding_is_not_read():
    whole = build_lut(REAL_RIG_16X44, SMALL_GRID, (16, 44), 'last')
    part = build_lut(REAL_RIG_16X44, SMALL_GRID, (20, 50), 'last', valid_hw=(16, 44))
    np.testing.assert_array_equal(part >= 0, whole >= 0)
    camera, pixel = np.divmod(whole[whole >= 0], 16 * 44)
    np.testing.assert_array_equal(part[whole >= 0], camera * 20 * 50 + pixel // 44 * 50 + pixel % 44)


def test_frames_interleave_and_start_at_the_given_frame():
    frames = np.stack([REAL_RIG_16X44, REAL_RIG_16X44[::-1]])
    starts = np.array([[5000 + 700 * c for c in range(6)], [700 * c for c in range(6)]])
    out = np.zeros((2, *SMALL_GRID.shape, 3), np.int32)
    build_frames_lut(frames, SMALL_GRID, (16, 44), 'last', None, starts, out[1][..., :2])
    for f in range(2):
        single = build_lut(frames[f], SMALL_GRID, (16, 44), 'last')
        expected = np.where(single < 0, -1, starts[f][single // 704] + single % 704)
        np.testing.assert_array_equal(out[1][..., f], expected)
    assert not out[0].any() and not out[1][..., 2].any()


def test_overlaps_are_the_voxels_whose_first_and_last_camera_differ_in_both_views():
    samples = np.stack([REAL_RIG_16X44, REAL_RIG_16X44[::-1]])
    starts = np.array([[5000 + 700 * c for c in range(6)], [704 * c for c in range(6)]])
    coarse = samples.copy()
    coarse[:, :, :2] /= 1.7
    views = [
        MapView(samples, (16, 44), (14, 40), starts),
        MapView(coarse, (9, 26), (6, 25), starts // 2),
    ]
    rows, counts = find_overlaps(views, SMALL_GRID)
    for n in range(2):
        tables = [
            build_frames_lut(matrices[n][None], SMALL_GRID, hw, priority, valid, first[n][None])[..., 0]
            for matrices, hw, valid, first in views
            for priority in ('first', 'last')
        ]
        twice = (tables[0] != tables[1]) & (tables[2] != tables[3])
        assert 0.01 < twice.mean() < 0.3 and (tables[0] != tables[1]).sum() > twice.sum()
        np.testing.assert_array_equal(counts[n], twice.sum((1, 2)))
        for found, count, wanted, here in zip(rows[n], counts[n], np.stack(tables, -1), twice, strict=True):
            np.testing.assert_array_equal(found[:count], wanted[here])


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match='middle'):
        build_lut(REAL_RIG_16X44, SMALL_GRID, (16, 44), 'middle')
    with pytest.raises(InputError, match=r'\(1, 6, 4, 3\)'):
        build_lut(np.zeros((6, 4, 3), np.float32), SMALL_GRID, (16, 44))
    view = MapView(np.stack([REAL_RIG_16X44]), (16, 44), (16, 44), np.zeros((1, 6)))
    with pytest.raises(InputError, match=r'equal samples and cameras.*\(1, 6\), \(1, 5\)'):
        find_overlaps([view, view._replace(img_from_lidar=view.img_from_lidar[:, 1:])], SMALL_GRID)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize('channels', [64, 3, 1])
def test_gather_copies_rows_bit_by_bit(dtype, channels):
    rows = torch.randn(11, channels).to(dtype)
    table = torch.tensor([3, -1, 10, 0, 3], dtype=torch.int32)
    expected = torch.stack([rows[3], torch.zeros(channels, dtype=dtype), rows[10], rows[0], rows[3]])
    assert torch.equal(gather_rows(rows, table), expected)
    assert torch.equal(gather_rows_torch(rows, table), expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_scatter_is_the_adjoint_of_gather_in_a_fixed_order(dtype):
    generator = torch.Generator().manual_seed(0)
    table = torch.randint(-1, 300, (5000,), generator=generator, dtype=torch.int32)
    values = torch.randn(5000, 8, generator=generator).to(dtype)
    expected = torch.zeros(300, 8, dtype=torch.float64)
    for row, value in zip(table.tolist(), values.double(), strict=True):
        if row >= 0:
            expected[row] += value
    sums = scatter_add_rows(values, table, 300)
    torch.testing.assert_close(sums.double(), expected, rtol=1e-5, atol=1e-5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = scatter_add_rows(values, table, 300)
    torch.set_num_threads(threads)
    assert torch.equal(sums, alone)
