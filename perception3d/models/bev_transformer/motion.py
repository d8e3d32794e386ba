"""How the LiDAR moved between the frames of a sample, from the matrices that the sample carries.

A past image comes with the matrix from the PRESENT LiDAR frame to its camera. The mount of a camera on the LiDAR is
rigid, so the same camera's two matrices tell how the LiDAR moved. The matrices already contain the augmentation of the
bird's-eye plane, and so does the motion: each past frame lives in its own LiDAR frame, augmented as the present one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmdet3d.structures import Det3DDataSample
from scipy.spatial.transform import Rotation
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.bev_transformer.pillars import PillarGrid
from perception3d.models.bev_transformer.temporal_attention import Memory

# Numbers in the vector that the released model takes from the vehicle's CAN bus.
SIGNALS = 18


def lidar_motion(samples: Sequence[Det3DDataSample], frames: int) -> np.ndarray:
    """Motions (B, F, 4, 4): from the present LiDAR frame to the LiDAR frame of each frame of the sample.

    Taken from the camera whose present image is nearest in time to the sample, of those that have an image in both
    frames. Raises InputError where samples of several frames have no `cam_from_lidar`, or no such camera.
    """
    motions = np.tile(np.eye(4), (len(samples), frames, 1, 1))
    if frames == 1:
        return motions
    for motion, sample in zip(motions, samples, strict=True):
        if 'cam_from_lidar' not in sample.metainfo:
            raise InputError('samples of several frames need cam_from_lidar: let the pipeline pack it')
        poses = np.asarray(sample.metainfo['cam_from_lidar'], np.float64).reshape(frames, -1, 4, 4)
        chosen = nearest_cameras(sample, frames)
        motion[:] = np.linalg.inv(poses[0, chosen]) @ poses[np.arange(frames), chosen]
    return motions


def nearest_cameras(sample: Det3DDataSample, frames: int) -> np.ndarray:
    """Index (F,) of the camera for each frame: the nearest to the sample in time that has an image now and then.

    Cameras without an image have an infinite time (`missing_cameras`). Without times, the first camera. Raises
    InputError where no camera has an image in both frames.
    """
    times, now = sample.metainfo.get('img_timestamps_s'), sample.metainfo.get('timestamp')
    if times is None or now is None:
        return np.zeros(frames, np.int64)
    seconds = np.asarray(times, np.float64).reshape(frames, -1)
    apart = np.abs(seconds[0] - float(now)) + np.where(np.isinf(seconds), np.inf, 0.0)
    if np.isinf(apart.min(1)).any():
        frame = int(np.isinf(apart.min(1)).argmax())
        raise InputError(
            f'sample {sample.metainfo.get("token")}: no camera has an image in the present frame and in frame {frame}, '
            'so that the motion between them is unknown: leave the sample out, or use fewer frames (num_frames)'
        )
    return apart.argmin(1)


def frame_times(samples: Sequence[Det3DDataSample], frames: int) -> np.ndarray:
    """Times (B, F) in seconds of the frames, by the camera of `lidar_motion`; NaN where times are not given."""
    times = np.full((len(samples), frames), np.nan)
    for row, sample in zip(times, samples, strict=True):
        stamps = sample.metainfo.get('img_timestamps_s')
        if stamps is not None:
            seconds = np.asarray(stamps, np.float64).reshape(frames, -1)
            row[:] = seconds[np.arange(frames), nearest_cameras(sample, frames)]
    return times


def motion_signals(older_from_newer: np.ndarray, step_s: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The vector (B, 18) float32 that replaces the CAN bus, made from two poses.

    The released model reads the vehicle's bus; here everything follows from the motion of the LiDAR since the frame
    before, in its present axes: path in metres (3), rotation as a quaternion w, x, y, z (4), acceleration (3, always 0:
    it would need a third pose), rate of rotation in rad/s (3), velocity in m/s (3), change of yaw in radians and in
    degrees. Where the released vector has the vehicle's heading in the world, this one has the change.

    Args:
        older_from_newer: (B, 4, 4) from the present LiDAR frame to that of the frame before.
        step_s: (B,) seconds between the two; where that is NaN or 0, rates are 0.
        known: (B,) False for samples without a frame before: they stand still.
    """
    signals = np.zeros((len(known), SIGNALS), np.float32)
    signals[:, 3] = 1
    for b in np.flatnonzero(known):
        motion, seconds = older_from_newer[b], step_s[b]
        turn = Rotation.from_matrix(motion[:3, :3])
        x, y, z, w = turn.as_quat(canonical=True)
        way = motion[:3, :3].T @ motion[:3, 3]
        yaw = np.arctan2(motion[1, 0], motion[0, 0])
        signals[b, :3], signals[b, 3:7] = way, (w, x, y, z)
        if seconds > 0:
            signals[b, 10:13], signals[b, 13:16] = turn.as_rotvec() / seconds, way / seconds
        signals[b, 16:] = yaw, np.degrees(yaw)
    return signals


def align_memory(bev: Tensor, older_from_newer: np.ndarray, known: np.ndarray, grid: PillarGrid) -> Memory:
    """Rotates the map (B, C, X, Y) of the frame before into the present axes, and returns how far the LiDAR moved.

    As in the released model the map is rotated about the LiDAR (bilinear here, nearest there), and the path becomes a
    shift of the sampling points of the queries.
    """
    motion = torch.from_numpy(np.asarray(older_from_newer, np.float32)).to(bev.device, non_blocking=True)
    turn = motion[:, :2, :2]
    extent, corner = (bev.new_tensor(pair, dtype=torch.float32) for pair in (grid.extent_m, grid.range_m[:2]))
    shift = (turn * motion[:, :2, 3, None]).sum(1)
    here = grid.centers(bev.device) * extent + corner
    there = (here[None, :, None] * turn[:, None]).sum(-1)
    places = ((there - corner) / extent * 2 - 1).view(len(bev), grid.shape[1], grid.shape[0], 2)
    turned = F.grid_sample(bev.float().transpose(2, 3), places, mode='bilinear', align_corners=False)
    is_known = torch.from_numpy(np.asarray(known)).to(bev.device, non_blocking=True)
    return Memory(turned.flatten(2).transpose(1, 2), shift / extent, is_known)
