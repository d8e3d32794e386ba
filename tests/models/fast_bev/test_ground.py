"""Grids and boxes that follow the ground: another height of the lidar changes nothing but the boxes' z."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_detector import batch as make_batch
from test_detector import build
from test_streaming import frame_at

from perception3d.checks import InputError
from perception3d.models.blocks.camera import follow_ground, ground_offset, ground_plane, sample_planes
from perception3d.models.fast_bev.streaming import FastBEVStream

GROUND_Z_M = -1.5


def ego_from_lidar(height_m: float, tilt_rad: float = 0.0, roll_rad: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    cos, sin = np.cos(tilt_rad), np.sin(tilt_rad)
    pose[:3, :3] = [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
    cos, sin = np.cos(roll_rad), np.sin(roll_rad)
    pose[:3, :3] = pose[:3, :3] @ [[1, 0, 0], [0, cos, -sin], [0, sin, cos]]
    pose[:3, 3] = 0.9, 0.1, height_m
    return pose


def with_pose(samples: list, pose: np.ndarray, aug: np.ndarray | None = None) -> list:
    for sample in samples:
        sample.set_metainfo(dict(ego_from_lidar=pose))
        if aug is not None:
            sample.set_metainfo(dict(aug_from_lidar=aug))
    return samples


def test_points_of_the_ground_lie_on_the_plane() -> None:
    pose = ego_from_lidar(1.9, 0.05, -0.03)
    ground = np.random.default_rng(0).uniform(-20, 20, (50, 4))
    ground[:, 2], ground[:, 3] = 0, 1
    in_lidar = ground @ np.linalg.inv(pose).T
    height, slope_x, slope_y = ground_plane(pose)
    np.testing.assert_allclose(in_lidar[:, 2], height + slope_x * in_lidar[:, 0] + slope_y * in_lidar[:, 1], atol=1e-9)


def test_the_plane_moves_with_augmentation() -> None:
    _, samples = make_batch()
    pose = ego_from_lidar(1.9, 0.05, -0.03)
    aug = np.eye(4)
    aug[:3, :3] = (
        1.1 * np.array([[np.cos(1), -np.sin(1), 0], [np.sin(1), np.cos(1), 0], [0, 0, 1]]) @ np.diag([-1, 1, 1])
    )
    aug[:3, 3] = 0.3, -0.2, 0.1
    plane = sample_planes(with_pose(samples, pose, aug))[0]
    point = np.linalg.inv(pose) @ [7.0, -4.0, 0.0, 1.0]
    x, y, z, _ = aug @ point
    assert z == pytest.approx(plane[0] + plane[1] * x + plane[2] * y)


def test_projections_reach_the_same_pixels() -> None:
    """A point `h` above the ground is asked for at ground_z_m + h, wherever the ground is."""
    matrices = np.random.default_rng(1).normal(size=(1, 2, 3, 4, 4))
    plane = ground_plane(ego_from_lidar(1.7, 0.02, 0.04))
    moved = follow_ground(matrices, plane[None], GROUND_Z_M)
    x, y, above = 5.0, -3.0, 0.7
    true_z = plane[0] + plane[1] * x + plane[2] * y + above
    np.testing.assert_allclose(moved @ [x, y, GROUND_Z_M + above, 1], matrices @ [x, y, true_z, 1])
    offset = ground_offset(torch.tensor([[x, y, true_z]]), plane, GROUND_Z_M)
    assert float(true_z - offset[0]) == pytest.approx(GROUND_Z_M + above)


def test_a_raised_lidar_sees_the_same_world() -> None:
    model = build(ground_z_m=GROUND_Z_M)
    inputs, samples = make_batch()
    with_pose(samples, ego_from_lidar(-GROUND_Z_M))
    _, raised = make_batch()
    lift = np.eye(4)
    lift[2, 3] = 0.4
    for sample in with_pose(raised, ego_from_lidar(-GROUND_Z_M + 0.4)):
        # A point of the raised lidar's frame lies 0.4 m lower than it did in the other's.
        sample.set_metainfo(dict(img_from_lidar=sample.metainfo['img_from_lidar'] @ lift))
        sample.gt_instances_3d.bboxes_3d.tensor[:, 2] -= 0.4
    boxes_before = raised[0].gt_instances_3d.bboxes_3d.tensor.clone()
    with torch.no_grad():
        losses = [model(inputs, group, mode='loss') for group in (samples, raised)]
        found = [model(inputs, group, mode='predict')[0].pred_instances_3d for group in (samples, raised)]
    assert torch.equal(raised[0].gt_instances_3d.bboxes_3d.tensor, boxes_before)
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value, rtol=1e-4, atol=1e-5)
    assert len(found[0].scores_3d) > 3
    torch.testing.assert_close(found[0].scores_3d, found[1].scores_3d, rtol=1e-4, atol=1e-5)
    expected = found[0].bboxes_3d.tensor.clone()
    expected[:, 2] -= 0.4
    torch.testing.assert_close(found[1].bboxes_3d.tensor, expected, rtol=1e-4, atol=1e-4)


def test_a_stream_follows_the_ground_too() -> None:
    frame = frame_at(0.0)
    frame.ego_from_lidar = ego_from_lidar(1.8, 0.03)
    flat = FastBEVStream(build(), ()).step(frame)
    followed = FastBEVStream(build(ground_z_m=-1.8), ()).step(frame)
    assert not torch.equal(flat.scores_3d[:3], followed.scores_3d[:3])
    level = frame_at(0.0)
    level.ego_from_lidar = ego_from_lidar(1.8)
    same = [FastBEVStream(build(**settings), ()).step(level) for settings in ({}, dict(ground_z_m=-1.8))]
    torch.testing.assert_close(same[0].bboxes_3d.tensor, same[1].bboxes_3d.tensor)


def test_missing_and_senseless_calibration_is_named() -> None:
    model = build(ground_z_m=GROUND_Z_M)
    inputs, samples = make_batch()
    with pytest.raises(InputError, match='ego_from_lidar'):
        model(inputs, samples, mode='predict')
    with pytest.raises(InputError, match='z axis'):
        ground_plane(ego_from_lidar(1.8, np.pi / 2))
