"""The sensors of the ego vehicle: where cameras and LiDAR are mounted, and when they fire."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perception3d.simulation.render.lidar import HDL32E, LidarModel
from perception3d.simulation.render.shade import as_triple

HDL64E = LidarModel(
    elevations_rad=tuple(map(float, np.deg2rad(np.r_[np.linspace(-24.8, -8.87, 32), np.linspace(-8.53, 2.0, 32)]))),
    columns=2083,
    period_s=0.1,
    last_azimuth_rad=float(np.deg2rad(270.0)),
    min_range_m=0.9,
    max_range_m=120.0,
    drop_share=0.05,
)
"""KITTI's LiDAR: 64 beams in two blocks, about 0.5 and 0.33 degrees apart; 10 revolutions a second end at the back."""


OS0_128 = LidarModel(
    elevations_rad=tuple(map(float, np.deg2rad(np.linspace(-45.0, 45.0, 128)))),
    columns=1024,
    period_s=0.1,
    last_azimuth_rad=float(np.deg2rad(270.0)),
    min_range_m=0.5,
    max_range_m=60.0,
    drop_share=0.02,
)
"""About the LiDAR of STCrowd: 128 beams from -45 to 45 degrees, 10 revolutions a second. Its columns per revolution are
not published; it can have 512, 1024 or 2048. A revolution ends at the back."""


@dataclass(frozen=True)
class CameraMount:
    """A pinhole camera of width x height pixels.

    Its position in the ego frame in metres (x forward, y left, z up, origin on the ground under the rear axle), yaw and
    pitch of its axis (pitch up positive) in radians, focal length and principal point in pixels, and how long before
    the end of the LiDAR's revolution it fires.
    """

    name: str
    place_m: tuple[float, float, float]
    yaw_rad: float
    pitch_rad: float
    focal: float
    principal_point: tuple[float, float]
    width: int
    height: int
    lead_s: float

    def ego_from_cam(self) -> np.ndarray:
        """Returns the pose (4, 4) of the camera: x right, y down, z forward."""
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        up = self.pitch_rad
        forward = np.array([cos * np.cos(up), sin * np.cos(up), np.sin(up)])
        right = np.array([sin, -cos, 0.0])
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        pose[:3, 3] = self.place_m
        return pose

    def intrinsics(self) -> np.ndarray:
        """Returns the camera matrix (3, 3); integer pixel coordinates are pixel centres."""
        return np.array(
            [[self.focal, 0, self.principal_point[0]], [0, self.focal, self.principal_point[1]], [0, 0, 1.0]]
        )

    def resized(self, width: int, height: int) -> CameraMount:
        """Returns the camera after a resize to `width` and a crop to `height` pixels.

        The crop leaves a third of the rows above the principal point, where the horizon is: what matters is on the road
        below it, and the lower edge of an object tells its distance.
        """
        scale = width / self.width
        cut = min(max(self.principal_point[1] * scale - height / 3, 0.0), self.height * scale - height)
        point = (self.principal_point[0] * scale, self.principal_point[1] * scale - cut)
        return replace(self, focal=self.focal * scale, principal_point=point, width=width, height=height)


@dataclass(frozen=True)
class LidarMount:
    """A LiDAR and its position in the ego frame in metres; its own frame is x right, y forward, z up."""

    name: str
    place_m: tuple[float, float, float]
    yaw_rad: float
    pitch_rad: float
    model: LidarModel

    def ego_from_lidar(self) -> np.ndarray:
        """Returns the pose (4, 4) of the LiDAR."""
        heading = self.yaw_rad - np.pi / 2
        cos, sin = np.cos(heading), np.sin(heading)
        up, flat = np.sin(self.pitch_rad), np.cos(self.pitch_rad)
        yaw = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        pose = np.eye(4)
        pose[:3, :3] = yaw @ np.array([[1, 0, 0], [0, flat, -up], [0, up, flat]])
        pose[:3, 3] = self.place_m
        return pose


@dataclass(frozen=True)
class Rig:
    """All sensors of one vehicle."""

    cameras: tuple[CameraMount, ...]
    lidar: LidarMount


def _camera(name: str, place: tuple[float, float, float], yaw_deg: float, focal: float = 1262.0) -> CameraMount:
    # The LiDAR's head rotates clockwise from 100 degrees (left, behind) and passes one camera's axis after the other.
    lead = ((yaw_deg - 100.0) % 360.0) / 360.0 * HDL32E.period_s
    return CameraMount(name, place, np.deg2rad(yaw_deg), 0.0, focal, (812.0, 490.0), 1600, 900, float(lead))


NUSCENES_RIG = Rig(
    cameras=(
        _camera('CAM_FRONT', (1.70, 0.02, 1.51), 0.3),
        _camera('CAM_FRONT_RIGHT', (1.55, -0.49, 1.50), -56.0),
        _camera('CAM_FRONT_LEFT', (1.52, 0.49, 1.51), 55.5),
        _camera('CAM_BACK', (0.03, 0.0, 1.58), 180.0, 809.0),
        _camera('CAM_BACK_LEFT', (1.04, 0.48, 1.59), 109.0),
        _camera('CAM_BACK_RIGHT', (1.01, -0.48, 1.56), -110.5),
    ),
    lidar=LidarMount('LIDAR_TOP', (0.94, 0.0, 1.84), 0.0, 0.0, HDL32E),
)
"""Six cameras and a LiDAR about where nuScenes has them; the cameras' axes, fields of view and order agree."""


def draw_rig(rng: np.random.Generator, rig: Rig, width: int, height: int) -> Rig:
    """Returns the rig of one scene: another vehicle height, small mounting errors, images of width x height pixels."""
    lift, tilt = rng.uniform(-0.2, 0.3), rng.normal(0, 0.006)
    cameras = []
    for camera in rig.cameras:
        place = np.array(camera.place_m) + [*rng.normal(0, 0.01, 2), lift + rng.normal(0, 0.01)]
        focal = camera.focal * (1 + rng.normal(0, 0.004))
        point = np.array(camera.principal_point) + rng.normal(0, 6, 2)
        # A vehicle that leans forward lowers the axes of the front cameras and raises that of the back camera.
        pitch = -tilt * np.cos(camera.yaw_rad) + rng.normal(0, 0.008)
        moved = replace(
            camera,
            place_m=as_triple(place),
            yaw_rad=float(camera.yaw_rad + rng.normal(0, 0.008)),
            pitch_rad=float(pitch),
            focal=float(focal),
            principal_point=(float(point[0]), float(point[1])),
        )
        cameras.append(moved.resized(width, height))
    place = np.array(rig.lidar.place_m) + [*rng.normal(0, 0.01, 2), lift]
    lidar = replace(rig.lidar, place_m=as_triple(place), yaw_rad=float(rng.normal(0, 0.01)), pitch_rad=float(-tilt))
    return Rig(tuple(cameras), lidar)


def _kitti_camera(name: str, place: tuple[float, float, float]) -> CameraMount:
    return CameraMount(name, place, 0.0, 0.0, 721.5377, (609.5593, 172.854), 1242, 375, HDL64E.period_s / 2)


KITTI_RIG = Rig(
    cameras=(
        _kitti_camera('image_0', (1.03, -0.004, 1.654)),
        _kitti_camera('image_1', (1.03, -0.541, 1.654)),
        _kitti_camera('image_2', (1.03, 0.056, 1.654)),
        _kitti_camera('image_3', (1.03, -0.484, 1.654)),
    ),
    lidar=LidarMount('velodyne', (0.76, 0.0, 1.73), 0.006, 0.0, HDL64E),
)
"""Two grey (0, 1) and two colour cameras (2, 3; 0.54 m apart) and a LiDAR, about where KITTI has them.

The cameras fire when the LiDAR points ahead, half a revolution before the sweep ends.
"""


def draw_kitti_rig(rng: np.random.Generator, columns: int) -> Rig:
    """Returns the rig of one frame with `columns` columns per revolution; the car pitches and bounces."""
    lift, pitch = np.clip(rng.normal(size=2), -2, 2) * (0.015, 0.004)
    rotation = np.array([[np.cos(pitch), 0, -np.sin(pitch)], [0, 1, 0], [np.sin(pitch), 0, np.cos(pitch)]])

    def moved(mount: CameraMount | LidarMount) -> tuple[float, float, float]:
        return as_triple(rotation @ mount.place_m + [0, 0, lift])

    cameras = tuple(replace(c, place_m=moved(c), pitch_rad=float(pitch)) for c in KITTI_RIG.cameras)
    lidar = KITTI_RIG.lidar
    model = replace(lidar.model, columns=columns)
    return Rig(cameras, replace(lidar, place_m=moved(lidar), pitch_rad=float(pitch), model=model))


CULANE_CAMERA = CameraMount('front', (1.7, 0.0, 1.4), 0.0, 0.0, 1240.0, (820.0, 262.0), 1640, 590, 0.0)
TUSIMPLE_CAMERA = CameraMount('front', (1.7, 0.0, 1.5), 0.0, 0.0, 1000.0, (640.0, 265.0), 1280, 720, 0.0)
"""Cameras behind the windscreen with the image sizes and about the horizons of these data sets. Neither publishes a
calibration: focal lengths and heights are plausible values of our own."""


def crowd_rig(columns: int) -> Rig:
    """Returns the rig of STCrowd with `columns` columns per revolution: a LiDAR above the origin, 2.1 m high.

    Its height is a value of our own. The camera has a calibration of its own, see the format.
    """
    return Rig((), LidarMount('os0', (0.0, 0.0, 2.1), 0.0, 0.0, replace(OS0_128, columns=columns)))


def draw_forward_camera(rng: np.random.Generator, camera: CameraMount) -> CameraMount:
    """Returns the camera of one drive: another height and place, small angles, another focal length."""
    ahead, aside, height = camera.place_m
    return replace(
        camera,
        place_m=(ahead, float(aside + rng.normal(0, 0.06)), float(height + rng.uniform(-0.15, 0.25))),
        yaw_rad=float(np.clip(rng.normal(0, 0.015), -0.035, 0.035)),
        pitch_rad=float(np.clip(rng.normal(0, 0.012), -0.025, 0.025)),
        focal=float(camera.focal * rng.uniform(0.92, 1.08)),
        principal_point=as_triple(np.array([*(camera.principal_point + rng.normal(0, 5, 2)), 0.0]))[:2],
    )
