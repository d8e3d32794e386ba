"""The motion of the LiDAR from the matrices of a sample, and the map of the frame before in the present axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bev_former_parts import CAMERAS, lidar_pose, make_sample, metas_at
from torch import Tensor

from perception3d.checks import InputError
from perception3d.datasets.transforms.camera_augment import BEVAugment
from perception3d.models.bev_transformer.motion import align_memory, frame_times, lidar_motion, motion_signals
from perception3d.models.bev_transformer.pillars import PillarGrid


def sample_of(metas: dict):
    return make_sample(metas, torch.zeros(0, 9))


def test_motion_is_that_of_the_lidar() -> None:
    times = [1.0, 0.5, 0.1]
    motions = lidar_motion([sample_of(metas_at(times))], 3)
    expected = [np.linalg.inv(lidar_pose(t)) @ lidar_pose(times[0]) for t in times]
    np.testing.assert_allclose(motions[0], expected, atol=1e-9)


def test_augmentation_of_the_plane_moves_the_motion_with_it() -> None:
    """Each past frame is augmented as the present one: aug . motion . aug^-1, a rigid motion even after a mirror."""
    metas = metas_at([1.0, 0.5])
    images = len(metas['cam_from_lidar'])
    results = {key: metas[key].copy() for key in ('cam_from_lidar', 'img_from_lidar')}
    results.update(
        img_from_stored=np.tile(np.eye(4), (images, 1, 1)), stored_from_cam=np.tile(np.eye(4), (images, 1, 1))
    )
    np.random.seed(0)
    augment = BEVAugment(flip_x_prob=1.0, rotate_rad=(0.3, 0.3), scale=(1.2, 1.2), translate_std_m=0.5)
    results = augment.transform(results)
    aug = results['aug_from_lidar']
    assert abs(np.linalg.det(aug[:3, :3])) > 1.5
    metas.update(cam_from_lidar=results['cam_from_lidar'], aug_from_lidar=aug)
    motion = lidar_motion([sample_of(metas)], 2)[0, 1]
    plain = np.linalg.inv(lidar_pose(0.5)) @ lidar_pose(1.0)
    np.testing.assert_allclose(motion, aug @ plain @ np.linalg.inv(aug), atol=1e-9)
    np.testing.assert_allclose(motion[:3, :3] @ motion[:3, :3].T, np.eye(3), atol=1e-9)


def test_the_camera_nearest_in_time_gives_the_motion() -> None:
    metas = metas_at([1.0, 0.5])
    metas['img_timestamps_s'] = np.array([0.9, 1.02, 0.95, 0.4, 0.52, 0.45])
    broken = metas['cam_from_lidar'].copy()
    broken[[0, 2, 3, 5], :3, 3] += 5
    metas['cam_from_lidar'] = broken
    sample = sample_of(metas)
    np.testing.assert_allclose(lidar_motion([sample], 2)[0, 1], np.linalg.inv(lidar_pose(0.5)) @ lidar_pose(1.0))
    assert frame_times([sample], 2).tolist() == [[1.02, 0.52]]
    del metas['img_timestamps_s']
    untold = sample_of(metas)
    assert np.isnan(frame_times([untold], 2)).all()


def test_signals_by_hand() -> None:
    """5 m straight ahead (y) in half a second, while turning left by 0.1 rad."""
    cos, sin = np.cos(0.1), np.sin(0.1)
    older_from_newer = np.eye(4)
    older_from_newer[:2, :2] = [[cos, -sin], [sin, cos]]
    older_from_newer[:3, 3] = 0, 5, 0
    motions = np.stack([older_from_newer] * 3)
    signals = motion_signals(motions, np.array([0.5, np.nan, 0.5]), np.array([True, True, False]))
    way = np.array([5 * sin, 5 * cos, 0])
    turn = [np.cos(0.05), 0, 0, np.sin(0.05)]
    expected = [*way, *turn, 0, 0, 0, 0, 0, 0.2, *(way / 0.5), 0.1, np.degrees(0.1)]
    np.testing.assert_allclose(signals[0], expected, atol=1e-6)
    np.testing.assert_allclose(signals[1], [*way, *turn, *[0] * 9, 0.1, np.degrees(0.1)], atol=1e-6)
    assert signals[2].tolist() == [0, 0, 0, 1] + [0] * 14


def world_value(points: np.ndarray) -> np.ndarray:
    """A linear function of the place in the world, which bilinear sampling reads exactly."""
    return 0.3 * points[..., 0] - 0.2 * points[..., 1] + 4


def map_of_world(grid: PillarGrid, pose: np.ndarray) -> Tensor:
    """The world as seen by a lidar at `pose`: (1, 1, X, Y)."""
    plane = grid.points('cpu')[:, 0].double().numpy()
    values = world_value(plane @ pose[:3, :3].T + pose[:3, 3])
    return grid.to_map(torch.from_numpy(values).float()[None, :, None])


@pytest.mark.parametrize('range_m', [(-16, -16, 16, 16), (-20, -10, 12, 22)])
@pytest.mark.parametrize('way, turn', [((3.0, 0.0), 0.0), ((0.0, -2.5), 0.0), ((0.0, 0.0), 0.4), ((2.0, 3.0), -0.3)])
def test_in_a_still_world_the_aligned_map_is_the_present_map(range_m, way, turn) -> None:
    """Reading the turned map at the shifted places gives what the present lidar sees there."""
    grid = PillarGrid(range_m, (32, 32), (0.0,))
    older = lidar_pose(0.7)
    step = np.eye(4)
    step[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    step[:2, 3] = way
    newer = older @ step
    memory = align_memory(map_of_world(grid, older), step[None], np.array([True]), grid)
    turned = grid.to_map(memory.queries)
    places = (grid.centers('cpu') + memory.shift[0]).view(1, 32, 32, 2)
    read = torch.nn.functional.grid_sample(turned.transpose(2, 3), places * 2 - 1, align_corners=False)
    expected = map_of_world(grid, newer).transpose(2, 3)
    gap = (read - expected).abs()[0, 0]
    # Cells whose place in the older map lies well inside of it.
    here = (grid.points('cpu')[:, 0].double().numpy() @ step[:3, :3].T + step[:3, 3])[:, :2].reshape(32, 32, 2)
    low, high = np.array(range_m[:2]) + 2.5, np.array(range_m[2:]) - 2.5
    plane = grid.points('cpu')[:, 0, :2].reshape(32, 32, 2).numpy()
    shifted = plane + step[:2, :2].T @ step[:2, 3]
    inside = ((here > low) & (here < high) & (shifted > low) & (shifted < high)).all(-1)
    assert inside.mean() > 0.4
    assert gap[torch.from_numpy(inside)].max() < 1e-3
    if way != (0.0, 0.0):
        still = (map_of_world(grid, older).transpose(2, 3) - expected).abs()[0, 0]
        assert still.mean() > 0.3


def test_several_frames_need_their_matrices() -> None:
    metas = metas_at([1.0, 0.5])
    del metas['cam_from_lidar']
    with pytest.raises(InputError, match='cam_from_lidar'):
        lidar_motion([sample_of(metas)], 2)
    assert np.array_equal(lidar_motion([sample_of(metas)], 1), np.eye(4)[None, None])
    assert len(metas_at([1.0])['cam_from_lidar']) == CAMERAS
