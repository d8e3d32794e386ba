"""SemanticKITTI: `sequences/XX/` with `velodyne/`, `labels/`, calib.txt, poses.txt and times.txt.

A sequence is a drive through several scenes, one after the other, each a few scans long. The next scene begins far away
and a minute later, so that scans of two scenes never overlap. Points are corrected for the motion of the ego vehicle,
as KITTI's: they are in the LiDAR's frame of the moment when it points ahead, which is also the time of the pose. Moving
objects stay where the LiDAR hit them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.files import write_bytes, write_whole
from perception3d.formats.semantickitti.files import SEQUENCES
from perception3d.formats.semantickitti.simulate.labels import agent_ids, has_instance, surface_ids
from perception3d.formats.semantickitti.simulate.profiles import POPULATION, SemanticKittiProfile
from perception3d.simulation.capture import SweepRecorder
from perception3d.simulation.jobs import SECOND_SPLIT, Job, Request, Writer
from perception3d.simulation.render.lidar import Sweep
from perception3d.simulation.rig import Rig, draw_kitti_rig
from perception3d.simulation.world.scene import make_scene

VAL_INDEX, TEST_INDEX = SECOND_SPLIT, 200_000
"""Numbers of the first scenes of the validation and of the test split."""
APART_M, APART_S = 1000.0, 60.0
"""How far from each other, and how long after each other, the scenes of a sequence begin."""
MOST_OBJECTS = 256
"""Instances of a scene; more would share numbers with the next one of the sequence, which is not in the same scans."""

_LIDAR_FROM_VELO = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Place:
    """Where a scene is: its sequence and which one of the scenes of this sequence it is."""

    sequence: str
    number: int

    def first_scan(self, scans: int) -> int:
        """Returns the number of its first scan, where each scene has `scans`."""
        return self.number * scans


def place_of(index: int) -> Place:
    """Returns where scene `index` is. Scenes of the first split take turns in its sequences."""
    if index >= TEST_INDEX:
        return Place(SEQUENCES['test'][0], index - TEST_INDEX)
    if index >= VAL_INDEX:
        return Place(SEQUENCES['val'][0], index - VAL_INDEX)
    train = SEQUENCES['train']
    return Place(train[index % len(train)], index // len(train))


def sequence_rig(request: Request[SemanticKittiProfile], sequence: str) -> Rig:
    """Returns the rig of a sequence, whose calibration is the same in all scans."""
    return draw_kitti_rig(np.random.default_rng([request.seed, int(sequence), 65]), request.profile.columns)


def cam_from_velo(rig: Rig) -> npt.NDArray[Any]:
    """Returns the matrix `Tr` (4, 4) of calib.txt: the camera 0 from the LiDAR's frame, x forward, y left, z up."""
    matrix: npt.NDArray[Any] = (
        np.linalg.inv(rig.cameras[0].ego_from_cam()) @ rig.lidar.ego_from_lidar() @ _LIDAR_FROM_VELO
    )
    return matrix


def world_from_cam(recorder: SweepRecorder, time_s: float) -> npt.NDArray[Any]:
    """Returns the pose (4, 4) of camera 0 in the scene's frame."""
    pose: npt.NDArray[Any] = recorder.scene.world_from_ego(time_s) @ recorder.rig.cameras[0].ego_from_cam()
    return pose


def scan_points(recorder: SweepRecorder, time_s: float) -> tuple[npt.NDArray[np.float32], Sweep]:
    """Returns points (N, 4) of the scan at a time, x forward, y left, z up in metres and remission 0..1, and its sweep.

    Rounded as KITTI's: 1 mm and 0.01.
    """
    scene, lidar = recorder.scene, recorder.rig.lidar
    end_s = time_s + lidar.model.period_s / 2
    sweep, _ = recorder.sweep(end_s)
    world_from_velo = scene.world_from_ego(time_s) @ lidar.ego_from_lidar() @ _LIDAR_FROM_VELO
    velo_from_last = np.linalg.inv(world_from_velo) @ scene.world_from_ego(end_s) @ lidar.ego_from_lidar()
    points = np.empty((len(sweep.points), 4), np.float32)
    points[:, :3] = np.round(sweep.points[:, :3] @ velo_from_last[:3, :3].T + velo_from_last[:3, 3], 3)
    # The root lifts weak echoes to the level of KITTI's: dark asphalt returns about a quarter of its scale.
    points[:, 3] = np.round(np.sqrt(sweep.points[:, 3] / 255.0), 2)
    return points, sweep


def scan_labels(
    sweeps: Sequence[Sweep], ids: npt.NDArray[np.uint32], counted: npt.NDArray[np.bool_], first: int
) -> list[npt.NDArray[np.uint32]]:
    """Returns the labels (N,) of each sweep of a scene: id in the lower, instance in the upper 16 bits.

    ids (A,): of the objects; counted (A,): which ones have instances. An object keeps its number in all sweeps; they
    begin with `first`.
    """
    seen = np.unique(np.concatenate([sweep.owner for sweep in sweeps]))
    seen = seen[seen >= 0]
    seen = seen[counted[seen]]
    instance = np.zeros(len(ids), np.uint32)
    instance[seen] = (first + np.arange(len(seen)) - 1) % 0x7FFF + 1
    # Surfaces of no object have the owner -1, which reads the appended zero.
    whole = np.append(ids | instance << np.uint32(16), np.uint32(0))
    table = surface_ids()
    return [np.where(sweep.owner >= 0, whole[sweep.owner], table[sweep.surface]) for sweep in sweeps]


def write_scene(job: Job[SemanticKittiProfile]) -> dict[str, Any]:
    """Writes the scans and labels of a scene; returns its sequence, and the pose of camera 0 and time of each scan.

    Poses (12 numbers each) are in the frame of the first one.
    """
    request, place = job.request, place_of(job.index)
    profile = request.profile
    times = profile.interval_s * np.arange(profile.scans)
    scene = make_scene(request.seed, job.index, float(times[-1]), population=POPULATION)
    recorder = SweepRecorder(scene, sequence_rig(request, place.sequence))
    scans = [scan_points(recorder, float(time_s)) for time_s in times]
    speeds = np.max([scene.speeds(float(time_s)) for time_s in times], axis=0)
    counted = np.array([has_instance(agent) for agent in scene.agents], bool)
    first = 1 + place.number * MOST_OBJECTS
    labels = scan_labels([sweep for _, sweep in scans], agent_ids(scene.agents, speeds), counted, first)
    folder = request.out / 'sequences' / place.sequence
    for k, ((points, _), label) in enumerate(zip(scans, labels, strict=True), start=place.first_scan(profile.scans)):
        write_bytes(folder / 'velodyne' / f'{k:06d}.bin', points)
        if job.index < TEST_INDEX:
            write_bytes(folder / 'labels' / f'{k:06d}.label', label)
    first_from_world = np.linalg.inv(world_from_cam(recorder, 0.0))
    poses = [(first_from_world @ world_from_cam(recorder, float(time_s)))[:3].ravel().tolist() for time_s in times]
    return {'poses': poses, 'times': times.tolist()}


def finish(
    request: Request[SemanticKittiProfile], jobs: list[Job[SemanticKittiProfile]], records: list[dict[str, Any]]
) -> None:
    """Writes calib.txt, poses.txt and times.txt of every sequence, and the test sequence if it is not there yet."""
    test = Job(request, TEST_INDEX, 'test')
    by_sequence: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for job, record in [*zip(jobs, records, strict=True), (test, write_scene(test))]:
        place = place_of(job.index)
        by_sequence[place.sequence].append((place.number, record))
    for sequence, scenes in by_sequence.items():
        poses, times = [], []
        for number, record in sorted(scenes, key=lambda scene: scene[0]):
            for pose, time_s in zip(record['poses'], record['times'], strict=True):
                # Camera 0 looks along z.
                poses.append([*pose[:11], pose[11] + APART_M * number])
                times.append(APART_S * number + time_s)
        folder = request.out / 'sequences' / sequence
        _write_lines(folder / 'poses.txt', [_numbers(pose) for pose in poses])
        _write_lines(folder / 'times.txt', [_numbers([time_s]) for time_s in times])
        _write_lines(folder / 'calib.txt', _calibration(sequence_rig(request, sequence)))


def _calibration(rig: Rig) -> list[str]:
    """Returns the lines of calib.txt: projections of the four cameras from camera 0, and `Tr`."""
    first = rig.cameras[0].ego_from_cam()
    lines = []
    for number, camera in enumerate(rig.cameras):
        projection = camera.intrinsics() @ (np.linalg.inv(camera.ego_from_cam()) @ first)[:3]
        lines.append(f'P{number}: {_numbers(projection.ravel())}')
    return [*lines, f'Tr: {_numbers(cam_from_velo(rig)[:3].ravel())}']


def _numbers(values: Iterable[float]) -> str:
    return ' '.join(f'{value:.12e}' for value in values)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    with write_whole(path) as temporary:
        temporary.write_text('\n'.join(lines) + '\n', encoding='ascii')


WRITER = Writer('semantickitti', write_scene, finish)
