"""A ring of pinhole cameras, as data for tests."""

from __future__ import annotations

import numpy as np


def ring_cam_from_lidar(cameras: int) -> np.ndarray:
    """(N, 4, 4) cameras at 1 m height that look outwards, evenly around."""
    matrices = []
    for yaw in np.arange(cameras) * 2 * np.pi / cameras:
        forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([right, [0, 0, -1.0], forward])
        matrix[:3, 3] = matrix[:3, :3] @ -np.array([0.3 * np.cos(yaw), 0.3 * np.sin(yaw), -0.5])
        matrices.append(matrix)
    return np.stack(matrices)


def intrinsics(cameras: int, image_hw: tuple[int, int]) -> np.ndarray:
    """(N, 4, 4) pinholes of 90 degrees."""
    height, width = image_hw
    matrix = np.eye(4)
    matrix[:2, :3] = [[width / 2, 0, width / 2], [0, width / 2, height / 2]]
    return np.tile(matrix, (cameras, 1, 1))


def tiny_rig(frames: int, cameras: int, image_hw: tuple[int, int]) -> np.ndarray:
    """(F * N, 4, 4) projections of a vehicle that moved 2 m between frames."""
    still = intrinsics(cameras, image_hw) @ ring_cam_from_lidar(cameras)
    moved = []
    for frame in range(frames):
        past_from_current = np.eye(4)
        past_from_current[0, 3] = 2.0 * frame
        moved.append(still @ past_from_current)
    return np.concatenate(moved)
