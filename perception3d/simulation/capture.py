"""What the sensors of one scene record: pictures, sweeps and what is known about every object at a keyframe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception3d.simulation.profiles import Profile
from perception3d.simulation.render.camera import Picture, cast_shadow, photograph
from perception3d.simulation.render.lidar import Sweep, scan
from perception3d.simulation.render.raster import owner_visibility
from perception3d.simulation.render.shade import Shadow
from perception3d.simulation.rig import CameraMount, Rig
from perception3d.simulation.world.primitives import Primitives
from perception3d.simulation.world.scene import Scene

SHADOW_REACH_M = 60.0


@dataclass
class Recorder:
    """Runs a rig through a scene."""

    scene: Scene
    rig: Rig
    profile: Profile

    def shadow(self, time_s: float) -> Shadow:
        """Returns the shadows at a time; they serve all cameras that fire within a few hundredths of a second."""
        middle = self.scene.world_from_ego(time_s)[:2, 3]
        solids = self.scene.solids(time_s)
        return cast_shadow(solids, self.scene.light, middle, SHADOW_REACH_M, self.profile.shadow_m)

    def picture(self, camera: CameraMount, time_s: float, shadow: Shadow) -> Picture:
        """Returns what a camera sees at a time."""
        number = [c.name for c in self.rig.cameras].index(camera.name)
        noise_seed = self.scene.rng_seed + 7919 * number + int(round(time_s * 1e4))
        return photograph(
            self.scene.solids(time_s),
            self.scene.ground,
            self.scene.light,
            shadow,
            self.scene.world_from_ego(time_s) @ camera.ego_from_cam(),
            camera.intrinsics(),
            (camera.height, camera.width),
            self.profile.oversampling,
            noise_seed,
        )

    def sweep(self, time_s: float) -> tuple[Sweep, Primitives]:
        """Returns the scanner's turn that ends at a time, and the solids at that time."""
        scene, lidar = self.scene, self.rig.lidar
        mount = lidar.ego_from_lidar()
        poses = scene.ego_poses(time_s + lidar.spinner.column_offsets_s()) @ mount
        solids = scene.solids(time_s)
        velocity = np.zeros((len(solids), 2))
        owned = solids.owner >= 0
        # Backward differences: the turn lies before `time_s`.
        period = lidar.spinner.period_s
        motion = (scene.poses(time_s) - scene.poses(time_s - period))[:, :2] / period
        velocity[owned] = motion[solids.owner[owned]]
        rng = np.random.default_rng([scene.rng_seed, 1, int(round((time_s + 10) * 1e4))])
        return scan(solids, velocity, scene.ground, lidar.spinner, poses, rng), solids

    def visibility(self, picture: Picture, time_s: float) -> np.ndarray:
        """Returns pixels (A, 2) per agent in a picture: covered if it stood alone, and visible."""
        owners = self.scene.solids(time_s).owner
        return owner_visibility(picture.view, owners, picture.ids, len(self.scene.agents))


def points_of_agents(sweep: Sweep, solids: Primitives, num_agents: int) -> np.ndarray:
    """Counts the points (A,) int64 that came back from each agent.

    By what was hit, not by what lies in a box: a box holds the pose at the end of the turn, and the points of an agent
    that moved during the turn lie beside it. Annotators count those points too, since they see whose they are.
    """
    owners = solids.owner[sweep.solid[sweep.solid >= 0]]
    return np.bincount(owners[owners >= 0], minlength=num_agents).astype(np.int64)
