"""STCrowd: `anno/SEQ.json`, `pcd/SEQ/*.bin`, `left/SEQ/*.jpg`, `split.json` and `camera.json`; a scene is a sequence.

The sensors stand still. A frame's time is that of its image, when the LiDAR points ahead; people are where the LiDAR
hit them. As in the release, cloud and image have time stamps for names that differ by 0.583 s although they belong
together: a reader that pairs them by time fails visibly. The camera is that of the release.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from perception3d.files import write_bytes, write_image
from perception3d.formats.stcrowd.files import (
    Camera,
    Frame,
    Image,
    Sequence,
    write_camera,
    write_sequence,
    write_split,
)
from perception3d.formats.stcrowd.rules import FRAME_INTERVAL_S
from perception3d.formats.stcrowd.simulate.labels import IMAGE_HW, Seen, label_image, label_people
from perception3d.formats.stcrowd.simulate.profiles import StCrowdProfile
from perception3d.simulation.capture import SHADOW_RADIUS_M, SweepRecorder, count_points
from perception3d.simulation.jobs import Job, Request, Writer
from perception3d.simulation.render.camera import Exposure, cast_shadow, oversampled, render_camera
from perception3d.simulation.render.raster import owner_visibility
from perception3d.simulation.rig import crowd_rig
from perception3d.simulation.world.crowd_places import KINDS
from perception3d.simulation.world.crowd_scene import make_crowd_scene
from perception3d.simulation.world.scene import Scene

VAL_INDEX = 100_000
"""Number of the first scene of the validation split."""
IMAGE_DELAY_S, JPEG_QUALITY = 0.583, 90
FIRST_STAMP_S, APART_S = 1_617_249_430.0, 1000.0
"""Time stamp of the first frame of sequence 1, and the time from one sequence to the next."""
CAMERA = Camera(
    np.array([[683.8, 0, 673.5907, 0], [0, 684.147, 372.8048, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    np.array(
        [
            [0.00852965, -0.999945, -0.00606215, 0.0609592],
            [-0.0417155, 0.00570127, -0.999113, -0.144364],
            [0.999093, 0.00877497, -0.0416646, -0.0731114],
            [0, 0, 0, 1],
        ]
    ),
)
"""The left camera of the release."""

_LIDAR_FROM_SENSOR = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def world_from_lidar(recorder: SweepRecorder) -> npt.NDArray[Any]:
    """Returns the pose (4, 4) of the LiDAR's frame, x forward, y left, z up."""
    pose: npt.NDArray[Any] = recorder.rig.lidar.ego_from_lidar() @ np.linalg.inv(_LIDAR_FROM_SENSOR)
    return pose


def record_cloud(recorder: SweepRecorder, time_s: float) -> tuple[npt.NDArray[np.float32], Seen]:
    """Returns points (N, 4) of the frame at a time, x, y, z in metres and reflectivity 0..255, and who is seen."""
    end_s = time_s + recorder.rig.lidar.model.period_s / 2
    sweep, _ = recorder.sweep(end_s)
    points = np.empty((len(sweep.points), 4), np.float32)
    points[:, :3] = np.round(sweep.points[:, :3] @ _LIDAR_FROM_SENSOR[:3, :3].T, 3)
    points[:, 3] = sweep.points[:, 3]
    boxes = recorder.boxes(end_s)
    counts = count_points(points[:, :3], world_from_lidar(recorder), boxes)
    alone = recorder.points_alone(end_s)
    hits = np.bincount(sweep.owner[sweep.owner >= 0], minlength=len(boxes))
    share = np.minimum(hits / np.maximum(alone, 1.0), 1.0)
    boxes[:, :3] -= world_from_lidar(recorder)[:3, 3]
    return points, Seen(boxes, counts, share)


def record_image(
    scene: Scene, world_from_cam: npt.NDArray[Any], time_s: float, profile: StCrowdProfile
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """Returns the image (720, 1280, 3) BGR of a frame, and the pixels (A, 2) of each person: covered and visible."""
    solids = scene.solids(time_s)
    height, width = (size // profile.shrink for size in IMAGE_HW)
    intrinsics = oversampled(CAMERA.img_from_cam[:3, :3], 1 / profile.shrink)
    noise = scene.rng_seed + int(round(time_s * 1e4))
    exposure = Exposure(world_from_cam, intrinsics, (height, width), profile.oversampling, noise)
    shadow = cast_shadow(solids, scene.light, np.zeros(2), SHADOW_RADIUS_M, profile.shadow_m)
    seen = render_camera(solids, scene.ground, scene.light, shadow, exposure)
    pixels = owner_visibility(seen.view, solids.owner, seen.ids, len(scene.agents))
    image = cv2.resize(seen.image, IMAGE_HW[::-1], interpolation=cv2.INTER_CUBIC)
    return image.astype(np.uint8, copy=False), pixels


def write_scene(job: Job[StCrowdProfile]) -> dict[str, Any]:
    """Writes the clouds, images and annotations of a sequence; returns its name."""
    request, profile, name = job.request, job.request.profile, str(job.index + 1)
    scene = make_crowd_scene(request.seed, job.index, FRAME_INTERVAL_S * (profile.frames - 1))
    recorder = SweepRecorder(scene, crowd_rig(profile.columns))
    world_from_cam = world_from_lidar(recorder) @ np.linalg.inv(CAMERA.cam_from_lidar)
    frames = []
    for k in range(profile.frames):
        time_s = FRAME_INTERVAL_S * k
        stamp = FIRST_STAMP_S + APART_S * job.index + time_s
        points, seen = record_cloud(recorder, time_s)
        cloud = f'pcd/{name}/{stamp:.3f}.bin'
        write_bytes(request.out / cloud, points)
        images: tuple[Image, ...] = ()
        if profile.shrink:
            image, pixels = record_image(scene, world_from_cam, time_s, profile)
            path = f'left/{name}/{name}_{stamp + IMAGE_DELAY_S:.3f}.jpg'
            write_image(request.out / path, image, JPEG_QUALITY)
            images = (Image(path, 'left', label_image(seen.boxes, pixels, CAMERA)),)
        frames.append(Frame(k, cloud, label_people(seen), images))
    kind = KINDS.index(scene.layout.kind) + 1
    write_sequence(request.out / 'anno' / f'{name}.json', Sequence(name, tuple(frames), job.index + 1, kind))
    return {'sequence': name}


def finish(request: Request[StCrowdProfile], jobs: list[Job[StCrowdProfile]], records: list[dict[str, Any]]) -> None:
    """Writes the split and the camera; there is no test split, since that of STCrowd has no labels."""
    splits: dict[str, list[str]] = {'train': [], 'val': []}
    for job, record in zip(jobs, records, strict=True):
        splits['val' if job.index >= VAL_INDEX else 'train'].append(record['sequence'])
    write_split(request.out / 'split.json', splits)
    write_camera(request.out / 'camera.json', CAMERA)


WRITER = Writer('stcrowd', write_scene, finish, version=1)
