"""KITTI's object benchmark: `training/`, `testing/` (without labels) and `ImageSets/`; every frame is its own scene.

The cameras fire at time 0, when the LiDAR points ahead; its revolution lasts from 0.05 s before that to 0.05 s after.
Points are corrected for the motion of the ego vehicle: they are in the LiDAR's frame at time 0, as KITTI's. Moving
objects stay where the LiDAR hit them, and so do their boxes, as if an annotator had drawn them around the points; in
the cameras' field of view that is within 0.011 s of the image. Labels: see `labels`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from perception3d.files import write_bytes, write_image, write_whole
from perception3d.formats.kitti.files import Calibration, write_calibration, write_objects
from perception3d.formats.kitti.simulate.labels import Observation, kitti_type, make_labels
from perception3d.formats.kitti.simulate.profiles import KittiProfile
from perception3d.simulation.capture import Recorder, count_points
from perception3d.simulation.jobs import Job, Request, Writer
from perception3d.simulation.rig import Rig, draw_kitti_rig
from perception3d.simulation.world.population import KITTI_POPULATION
from perception3d.simulation.world.scene import make_scene

TEST_INDEX, TEST_FRAMES = 200_000, 2
"""Number of the first scene of `testing/`, after those of both splits; how many there are."""

_LIDAR_FROM_VELO = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


RECTIFICATION = Rotation.from_euler('XYZ', [0.004, -0.0085, -0.010]).as_matrix()
"""R0_rect, about as large as KITTI's own, so that a reader that ignores it fails visibly."""


def calibrate(rig: Rig) -> Calibration:
    """Returns the matrices of a rig whose four cameras point in the same direction."""
    first = rig.cameras[0].ego_from_cam()
    rect_from_velo = np.linalg.inv(first) @ rig.lidar.ego_from_lidar() @ _LIDAR_FROM_VELO
    projections = [c.intrinsics() @ (np.linalg.inv(c.ego_from_cam()) @ first)[:3] for c in rig.cameras]
    return Calibration(tuple(projections), RECTIFICATION, RECTIFICATION.T @ rect_from_velo[:3])


def record_points(recorder: Recorder) -> npt.NDArray[Any]:
    """Returns points (N, 4) float32: metres in the LiDAR's frame of time 0 (x forward, y left) and reflectance.

    Reflectances are 0..1. Rounded as KITTI's: 1 mm and 0.01.
    """
    scene, lidar = recorder.scene, recorder.rig.lidar
    end_s = lidar.model.period_s / 2
    sweep, _ = recorder.sweep(end_s)
    world_from_last = scene.world_from_ego(end_s) @ lidar.ego_from_lidar()
    velo_from_last = np.linalg.inv(_world_from_velo(recorder)) @ world_from_last
    points = np.empty((len(sweep.points), 4), np.float32)
    points[:, :3] = np.round(sweep.points[:, :3] @ velo_from_last[:3, :3].T + velo_from_last[:3, 3], 3)
    # KITTI's LiDAR returns about a quarter of its scale from dark asphalt: the root lifts weak echoes.
    points[:, 3] = np.round(np.sqrt(sweep.points[:, 3] / 255.0), 2)
    return points


def _world_from_velo(recorder: Recorder) -> npt.NDArray[Any]:
    lidar = recorder.rig.lidar
    world_from_velo: npt.NDArray[Any] = recorder.scene.world_from_ego(0.0) @ lidar.ego_from_lidar() @ _LIDAR_FROM_VELO
    return world_from_velo


def make_recorder(request: Request[KittiProfile], index: int) -> Recorder:
    """Returns the recorder of scene `index`."""
    scene = make_scene(request.seed, index, 0.0, population=KITTI_POPULATION)
    rig = draw_kitti_rig(np.random.default_rng([request.seed, index, 64]), request.profile.columns)
    return Recorder(scene, rig, request.profile)


def _write_frame(request: Request[KittiProfile], index: int, folder: Path, name: str, labelled: bool) -> None:
    """Writes all files of one frame; the calibration last."""
    recorder = make_recorder(request, index)
    scene, rig = recorder.scene, recorder.rig
    points = record_points(recorder)
    write_bytes(folder / 'velodyne' / f'{name}.bin', points)
    shadow = recorder.shadow(0.0)
    for number, camera in enumerate(rig.cameras):
        if camera.name not in request.profile.images:
            continue
        image = recorder.camera_image(camera, 0.0, shadow)
        write_image(folder / camera.name / f'{name}.png', image.image)
        if labelled and camera.name == 'image_2':
            boxes = recorder.boxes(rig.lidar.model.period_s / 2)
            counts = count_points(points[:, :3], _world_from_velo(recorder), boxes)
            labels = make_labels(
                [kitti_type(agent.body) for agent in scene.agents],
                Observation(boxes, recorder.visibility(image, 0.0), counts),
                np.linalg.inv(scene.world_from_ego(0.0) @ rig.cameras[0].ego_from_cam()),
                calibrate(rig).projections[number],
                (camera.height, camera.width),
            )
            write_objects(folder / 'label_2' / f'{name}.txt', labels)
    write_calibration(folder / 'calib' / f'{name}.txt', calibrate(rig))


def write_scene(job: Job[KittiProfile]) -> dict[str, Any]:
    """Writes the one frame of a scene; returns its name, which is the scene's number."""
    name = f'{job.index:06d}'
    _write_frame(job.request, job.index, job.request.out / 'training', name, labelled=True)
    return {'frame': name}


def finish(request: Request[KittiProfile], jobs: list[Job[KittiProfile]], records: list[dict[str, Any]]) -> None:
    """Writes the lists of frames and, if they are not there yet, the frames of `testing/`."""
    names = [record['frame'] for record in records]
    tests = [f'{k:06d}' for k in range(TEST_FRAMES)]
    for k, name in enumerate(tests):
        if not (request.out / 'testing' / 'calib' / f'{name}.txt').is_file():
            _write_frame(request, TEST_INDEX + k, request.out / 'testing', name, labelled=False)
    train, val = names[: request.scenes], names[request.scenes :]
    for split, frames in {'train': train, 'val': val, 'trainval': names, 'test': tests}.items():
        with write_whole(request.out / 'ImageSets' / f'{split}.txt') as temporary:
            temporary.write_text(''.join(f'{frame}\n' for frame in frames), encoding='ascii')


WRITER = Writer('kitti', write_scene, finish, version=1)
