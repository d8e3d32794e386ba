"""What the sensors of one scene record: images, sweeps and what is known about every object at a keyframe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception3d.ops.inside_boxes import count_in_boxes
from perception3d.simulation.profiles import ImageProfile
from perception3d.simulation.render.camera import CameraImage, Exposure, cast_shadow, render_camera
from perception3d.simulation.render.lidar import Sweep, scan
from perception3d.simulation.render.lidar_alone import rays_alone
from perception3d.simulation.render.primitives import Primitives
from perception3d.simulation.render.raster import owner_visibility
from perception3d.simulation.render.shade import Shadow
from perception3d.simulation.rig import CameraMount, Rig
from perception3d.simulation.world.scene import Scene

SHADOW_RADIUS_M = 60.0
"""Half width of the square around the ego vehicle in which shadows are cast."""


@dataclass
class SweepRecorder:
    """Records what the LiDAR of a rig measures in a scene."""

    scene: Scene
    rig: Rig

    def sweep(self, time_s: float) -> tuple[Sweep, Primitives]:
        """Returns the LiDAR sweep that ends at a time, and the solids at that time."""
        scene, lidar = self.scene, self.rig.lidar
        solids = scene.solids(time_s)
        rng = np.random.default_rng([scene.rng_seed, 1, int(round((time_s + 10) * 1e4))])
        velocity, poses = self._motion(solids, time_s)
        return scan(solids, velocity, scene.ground, lidar.model, poses, rng, scene.relief), solids

    def points_alone(self, time_s: float) -> np.ndarray:
        """Returns how many points (A,) the sweep that ends at a time would have on each agent if nothing hid it."""
        lidar, solids = self.rig.lidar.model, self.scene.solids(time_s)
        velocity, poses = self._motion(solids, time_s)
        rays = rays_alone(solids, velocity, lidar, poses, len(self.scene.agents))
        return rays * (1.0 - lidar.drop_share)

    def _motion(self, solids: Primitives, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the velocities (S, 2) of the solids and the poses (columns, 4, 4) of the LiDAR in a revolution."""
        scene, lidar = self.scene, self.rig.lidar
        poses = scene.ego_poses(time_s + lidar.model.column_offsets_s()) @ lidar.ego_from_lidar()
        velocity = np.zeros((len(solids), 2))
        owned = solids.owner >= 0
        # Backward differences: the revolution ends at `time_s`.
        period = lidar.model.period_s
        motion = (scene.poses(time_s) - scene.poses(time_s - period))[:, :2] / period
        velocity[owned] = motion[solids.owner[owned]]
        return velocity, poses

    def boxes(self, time_s: float) -> np.ndarray:
        """Returns the boxes (A, 7) of all agents in the scene's frame: center, length, width, height, yaw.

        Each is where its agent was when the LiDAR hit it during the revolution that ends at `time_s`, so that boxes
        lie on the points and, since a camera fires when the LiDAR passes its axis, on the images. Annotators of real
        data place boxes the same way. For moving objects this is up to one revolution (0.05 s) before `time_s`.
        """
        scene, lidar = self.scene, self.rig.lidar
        sizes = np.array([a.body.size_m for a in scene.agents]).reshape(-1, 3)
        times = np.full(len(sizes), time_s)
        for _ in range(2):
            poses = scene.poses(times)
            world_from_lidar = scene.ego_poses(times) @ lidar.ego_from_lidar()
            offset = np.concatenate([poses[:, :2], sizes[:, 2:] / 2], 1) - world_from_lidar[:, :3, 3]
            seen = np.einsum('nij,ni->nj', world_from_lidar[:, :3, :3], offset)
            azimuth = np.arctan2(seen[:, 1], seen[:, 0])
            ahead = np.mod(azimuth - lidar.model.last_azimuth_rad, 2 * np.pi) / (2 * np.pi)
            times = time_s - ahead * lidar.model.period_s
        poses = scene.poses(times)
        heights = scene.ground_heights(scene.poses(time_s)[:, :2])
        return np.column_stack([poses[:, :2], sizes[:, 2] / 2 + heights, sizes, poses[:, 2]])


@dataclass
class Recorder(SweepRecorder):
    """Records what all sensors of a rig measure in a scene."""

    profile: ImageProfile

    def shadow(self, time_s: float) -> Shadow:
        """Returns the shadows at a time; cameras that fire within a few hundredths of a second share them."""
        center = self.scene.world_from_ego(time_s)[:2, 3]
        solids = self.scene.solids(time_s)
        return cast_shadow(solids, self.scene.light, center, SHADOW_RADIUS_M, self.profile.shadow_m)

    def camera_image(self, camera: CameraMount, time_s: float, shadow: Shadow) -> CameraImage:
        """Returns what a camera sees at a time."""
        number = [c.name for c in self.rig.cameras].index(camera.name)
        noise_seed = self.scene.rng_seed + 7919 * number + int(round(time_s * 1e4))
        exposure = Exposure(
            self.scene.world_from_ego(time_s) @ camera.ego_from_cam(),
            camera.intrinsics(),
            (camera.height, camera.width),
            self.profile.oversampling,
            noise_seed,
        )
        return render_camera(self.scene.solids(time_s), self.scene.ground, self.scene.light, shadow, exposure)

    def visibility(self, image: CameraImage, time_s: float) -> np.ndarray:
        """Returns pixels (A, 2) per agent in an image: what it would cover without all others, and what is visible."""
        owners = self.scene.solids(time_s).owner
        return owner_visibility(image.view, owners, image.ids, len(self.scene.agents))


def count_points(points: np.ndarray, world_from_lidar: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Counts the points (N, 3) of the LiDAR's frame inside upright boxes (B, 7), faces included; (B,) int64.

    boxes: x, y, z of the center, length, width, height and yaw in the world frame.
    """
    world = points.astype(np.float64) @ world_from_lidar[:3, :3].T + world_from_lidar[:3, 3]
    return count_in_boxes(world, boxes)
