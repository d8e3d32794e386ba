from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from camera_rig import REAL_RIG_16X44

from perception3d.benchmark.masked_writes import lift_by_masked_writes
from perception3d.checks import InputError
from perception3d.geometry.grid import VoxelGrid
from perception3d.models.fast_bev.view_transform import FeatureRows, GatherRows, LookupViewTransform

GRID = VoxelGrid((-50, -50, -4, 50, 50, 2), (20, 24, 3))
IMAGE_HW = (64, 176)


@pytest.fixture
def matrices() -> np.ndarray:
    """Projections (2, 3, 6, 4, 4) to images of 64 x 176, another pose for each sample and frame."""
    rig = np.tile(np.eye(4), (2, 3, 6, 1, 1))
    rig[..., :3, :] = REAL_RIG_16X44
    rig[..., :2, :] *= 4
    for sample in range(2):
        for frame in range(3):
            moved = np.eye(4)
            moved[:2, 3] = 1.5 * frame, 0.7 * sample
            rig[sample, frame] = rig[sample, frame] @ moved
    return rig


def _maps(dtype: torch.dtype = torch.float32, channels: int = 8, hw: tuple[int, int] = (16, 44)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(36, channels, *hw, generator=generator).to(dtype)
    return maps.contiguous(memory_format=torch.channels_last)


def _split(maps: torch.Tensor) -> torch.Tensor:
    return maps.view(2, 3, 6, *maps.shape[1:])


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_last_camera_equals_six_masked_writes_bit_by_bit(matrices, dtype):
    maps = _maps(dtype)
    lifted = LookupViewTransform(GRID)([FeatureRows.from_maps(maps, 2, 3)], matrices, IMAGE_HW)
    assert torch.equal(lifted, lift_by_masked_writes(_split(maps), matrices, GRID, IMAGE_HW))
    assert lifted.dtype == dtype
    assert lifted.is_contiguous(memory_format=torch.channels_last)


def test_mean_equals_sum_over_count(matrices):
    maps = _maps()
    lifted = LookupViewTransform(GRID, 'mean')([FeatureRows.from_maps(maps, 2, 3)], matrices, IMAGE_HW)
    torch.testing.assert_close(lifted, lift_by_masked_writes(_split(maps), matrices, GRID, IMAGE_HW, 'mean'))


def test_channels_run_height_then_frame_then_feature(matrices):
    maps = torch.zeros(36, 8, 16, 44)
    for frame in range(3):
        for c in range(8):
            _split(maps)[:, frame, :, c] = 1 + frame * 100 + c
    lifted = LookupViewTransform(GRID)([FeatureRows.from_maps(maps, 2, 3)], matrices, IMAGE_HW)
    by_channel = lifted.amax((0, 2, 3)).view(3, 3, 8)
    expected = 1 + torch.arange(3)[:, None] * 100 + torch.arange(8)
    assert torch.equal(by_channel, expected.expand(3, 3, 8).float())


def test_several_levels_into_one_grid_stack_levels_outside_frames(matrices):
    fine, coarse = _maps(), _maps(hw=(8, 22))
    levels = [FeatureRows.from_maps(maps, 2, 3) for maps in (fine, coarse)]
    both = LookupViewTransform(GRID)(levels, matrices, IMAGE_HW).view(2, 3, 2, 3 * 8, 20, 24)
    for number, maps in enumerate((fine, coarse)):
        alone = lift_by_masked_writes(_split(maps), matrices, GRID, IMAGE_HW).view(2, 3, 3 * 8, 20, 24)
        assert torch.equal(both[:, :, number], alone)


@pytest.mark.parametrize('priority', ['last', 'mean'])
def test_gradients_equal_those_of_the_masked_writes(matrices, priority):
    maps = _maps().requires_grad_()
    reference = maps.detach().clone().requires_grad_()
    weight = torch.randn(2, 3 * 3 * 8, 20, 24)
    lifted = LookupViewTransform(GRID, priority)([FeatureRows.from_maps(maps, 2, 3)], matrices, IMAGE_HW)
    (lifted * weight).sum().backward()
    (lift_by_masked_writes(_split(reference), matrices, GRID, IMAGE_HW, priority) * weight).sum().backward()
    torch.testing.assert_close(maps.grad, reference.grad)


def test_gradcheck():
    rows = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    table = torch.tensor([0, -1, 6, 6, 2, 0, 0, -1], dtype=torch.int32)
    assert torch.autograd.gradcheck(lambda x: GatherRows.apply(x, table, None), (rows,))


def test_bfloat16_gradients_are_summed_in_float32():
    rows = torch.zeros(1, 2, dtype=torch.bfloat16, requires_grad=True)
    table = torch.zeros(1000, dtype=torch.int32)
    GatherRows.apply(rows, table, None).backward(torch.full((1000, 2), 1.0078125, dtype=torch.bfloat16))
    # In bfloat16 itself the sum would stop growing at 256.
    assert rows.grad[0, 0] == torch.tensor(1007.8125).bfloat16()


def test_a_static_world_looks_the_same_from_a_moving_vehicle():
    """History seen from two voxels further on is the BEV map of that moment, shifted by two voxels."""
    rig = np.tile(np.eye(4), (6, 1, 1))
    rig[:, :3] = REAL_RIG_16X44
    rig[:, :2] *= 4
    current_from_past = np.eye(4)
    current_from_past[0, 3] = -2 * GRID.voxel_size_m[0]
    maps = _maps()[:6]
    rows = [FeatureRows.from_maps(maps, 1, 1)]
    then = LookupViewTransform(GRID)(rows, rig[None, None], IMAGE_HW)
    history = LookupViewTransform(GRID)(rows, (rig @ np.linalg.inv(current_from_past))[None, None], IMAGE_HW)
    same = (history[:, :, :-2] == then[:, :, 2:]).all(1)
    # Float32 may round a pixel otherwise, hardly ever.
    assert same.float().mean() > 0.99
    assert not torch.equal(history, then)


def test_tables_are_kept_in_inference_and_only_changed_frames_are_rebuilt(matrices, monkeypatch):
    from perception3d.models.fast_bev import view_transform

    built = []
    original = view_transform.build_frames_lut
    monkeypatch.setattr(
        view_transform, 'build_frames_lut', lambda *args: (built.append(len(args[0])), original(*args))[1]
    )
    transform, rows = LookupViewTransform(GRID).eval(), [FeatureRows.from_maps(_maps(), 2, 3)]
    with torch.no_grad():
        transform(rows, matrices, IMAGE_HW)
        assert built == [3, 3]
        matrices[1, 2, 0, 0, 3] += 5
        expected = lift_by_masked_writes(_split(_maps()), matrices, GRID, IMAGE_HW)
        assert torch.equal(transform(rows, matrices, IMAGE_HW), expected)
        assert built == [3, 3, 1]
    assert copy.deepcopy(transform)._kept.out is None


def test_an_output_with_gradients_is_never_overwritten(matrices):
    transform, rows = LookupViewTransform(GRID).eval(), [FeatureRows.from_maps(_maps(), 2, 3)]
    first = transform(rows, matrices, IMAGE_HW)
    kept = first.clone()
    transform([FeatureRows.from_maps(_maps() + 1, 2, 3)], matrices, IMAGE_HW)
    assert torch.equal(first, kept)


def test_an_unknown_priority_is_refused():
    with pytest.raises(InputError, match='nearest'):
        LookupViewTransform(GRID, 'nearest')
