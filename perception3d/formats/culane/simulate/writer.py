"""CULane: `driver_*/VIDEO.MP4/NNNNN.jpg` and `.lines.txt`, masks, lists, nine categories; and `extra/`.

A scene is a video of a few images. Scenes of the first split are `train.txt`, every eighth of them `val.txt`; those of
the second are `test.txt`, and the nine categories take turns in it. Lanes are annotated as in CULane: at most two on
each side of the ego vehicle, also where a vehicle hides them or no paint is left, and none where a junction is ahead.

`extra/` is not part of CULane: the steering angle of every image, depth and class of every pixel, and units.json, which
says what their numbers mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.datasets.lane_lists import format_gt_list
from perception3d.datasets.lane_masks import draw_lane_mask
from perception3d.files import write_bytes, write_image, write_json
from perception3d.formats.culane.files import (
    CATEGORIES,
    CATEGORY_FILES,
    DEPTH_FOLDER,
    LANE_WIDTH_PX,
    LINES_SUFFIX,
    MASK_FOLDER,
    SEMANTIC_FOLDER,
    SLOTS,
    STEERING_FILE,
    format_lines,
)
from perception3d.simulation.jobs import SECOND_SPLIT, Job, Request, Writer, train_val_test
from perception3d.simulation.lane_capture import SCENE_CLASSES, LaneImage, Sampling, record_image, sample_lanes
from perception3d.simulation.profiles import LaneProfile
from perception3d.simulation.rig import CULANE_CAMERA, CameraMount, draw_forward_camera
from perception3d.simulation.world.lane_scene import LaneScene, make_lane_scene
from perception3d.simulation.world.lane_streets import CITY

FOLDERS = {
    'train': ('driver_23_30frame', 'driver_161_90frame', 'driver_182_30frame'),
    'test': ('driver_37_30frame', 'driver_100_30frame', 'driver_193_90frame'),
}
"""CULane's drives of the two splits; validation images are from those of training."""
ROW_STEP_PX, FRAMES_PER_S, JPEG_QUALITY, DEPTH_PER_M = 10, 30, 90, 256.0
TRAIN_ODDS = (0.22, 0.16, 0.08, 0.12, 0.1, 0.08, 0.1, 0.04, 0.1)
"""How frequent each category is in training: the rare ones are more frequent than on CULane's roads."""

VISIBLE_FILE, UNITS_FILE = 'extra/visible.json', 'extra/units.json'
UNITS = {
    'steering.json': 'angle of the front wheels in rad, positive to the left, by image',
    'visible.json': 'share of each lane in the image that nothing hides, in the order of its .lines.txt, by image',
    'depth': f'metres along the optical axis times {DEPTH_PER_M:.0f}; 0: sky, or beyond 255 m',
    'semantic': dict(enumerate(SCENE_CLASSES)),
}


def category_of(seed: int, index: int) -> str:
    """Returns the category of a scene: the nine in turn for testing, at random for training."""
    if index >= SECOND_SPLIT:
        return CATEGORIES[(index - SECOND_SPLIT) % len(CATEGORIES)]
    return str(np.random.default_rng([seed, index, 9]).choice(CATEGORIES, p=TRAIN_ODDS))


def frame_ids(request: Request[LaneProfile], index: int) -> list[str]:
    """Returns the names of the images of a scene, without suffix, relative to the root."""
    profile, split = request.profile, train_val_test(index)
    folders = FOLDERS['test' if split == 'test' else 'train']
    number = index % SECOND_SPLIT
    video = f'{folders[number % len(folders)]}/0516{1000 + number // 10000:04d}_{number % 10000:04d}.MP4'
    return [f'{video}/{round(k * profile.interval_s * FRAMES_PER_S):05d}' for k in range(profile.frames)]


def write_scene(job: Job[LaneProfile]) -> dict[str, Any]:
    """Writes the images of a scene and all that belongs to them; returns its category and its frames.

    Of each frame: name, existence of the slots, steering angle, and of each lane which share of it nothing hides.
    """
    request, profile = job.request, job.request.profile
    category = category_of(request.seed, job.index)
    duration_s = (profile.frames - 1) * profile.interval_s
    lanes = make_lane_scene(request.seed, job.index, category, CITY, duration_s)
    camera = draw_forward_camera(np.random.default_rng([request.seed, job.index, 59]), CULANE_CAMERA)
    frames = [
        _write_frame(request, lanes, camera, frame_id, k * profile.interval_s)
        for k, frame_id in enumerate(frame_ids(request, job.index))
    ]
    return {'category': category, 'split': train_val_test(job.index), 'frames': frames}


def _write_frame(
    request: Request[LaneProfile], lanes: LaneScene, camera: CameraMount, frame_id: str, time_s: float
) -> dict[str, Any]:
    root, profile = request.out, request.profile
    seen = record_image(lanes, camera, time_s, Sampling(profile.oversampling, profile.shrink))
    # Row 590 is one below the image.
    rows = np.arange(camera.height, 0, -ROW_STEP_PX, dtype=float)
    sampled = sample_lanes(lanes, camera, time_s, rows, len(SLOTS))
    # Rounded as in the file, so that the mask is that of the lanes in it.
    points = [np.column_stack([lane.x.round(2), rows])[np.isfinite(lane.x)] for lane in sampled]
    slots = [lane.slot for lane in sampled]
    write_image(root / f'{frame_id}.jpg', seen.image, JPEG_QUALITY)
    write_bytes(root / f'{frame_id}{LINES_SUFFIX}', format_lines(points).encode())
    if not frame_id.startswith(FOLDERS['test']):
        mask = draw_lane_mask(points, slots, (camera.height, camera.width), LANE_WIDTH_PX)
        write_image(root / MASK_FOLDER / f'{frame_id}.png', mask)
    write_image(root / DEPTH_FOLDER / f'{frame_id}.png', _depth_png(seen))
    write_image(root / SEMANTIC_FOLDER / f'{frame_id}.png', seen.classes)
    return {
        'frame_id': frame_id,
        'exist': [int(slot in slots) for slot in range(len(SLOTS))],
        'steering_rad': lanes.steering_rad(time_s),
        'visible': [round(lane.projected.visible_share(seen.depth_m), 3) for lane in sampled],
    }


def _depth_png(seen: LaneImage) -> npt.NDArray[np.uint16]:
    """Returns depth as units.json says: in 1/256 m, 0 in the sky and beyond 255 m."""
    depth = np.where(seen.depth_m < 255.0, seen.depth_m, 0.0)
    scaled: npt.NDArray[np.uint16] = np.rint(depth * DEPTH_PER_M).astype(np.uint16)
    return scaled


def finish(request: Request[LaneProfile], jobs: list[Job[LaneProfile]], records: list[dict[str, Any]]) -> None:
    """Writes the lists of images, and the steering angles and units of `extra/`."""
    frames: dict[str, list[dict[str, Any]]] = {'train': [], 'val': [], 'test': []}
    for record in records:
        frames[record['split']] += record['frames']
    root = request.out
    for split, entries in frames.items():
        _write_list(root / 'list' / f'{split}.txt', entries)
    for split in ('train', 'val'):
        rows = [(f['frame_id'], f'{MASK_FOLDER}/{f["frame_id"]}.png', f['exist']) for f in frames[split]]
        write_bytes(root / 'list' / f'{split}_gt.txt', format_gt_list(rows).encode())
    tested = [record for record in records if record['split'] == 'test']
    for name, file in zip(CATEGORIES, CATEGORY_FILES, strict=True):
        _write_list(root / file, [f for record in tested if record['category'] == name for f in record['frames']])
    every = [frame for entries in frames.values() for frame in entries]
    write_json(root / STEERING_FILE, {frame['frame_id']: frame['steering_rad'] for frame in every})
    write_json(root / VISIBLE_FILE, {frame['frame_id']: frame['visible'] for frame in every})
    write_json(root / UNITS_FILE, UNITS, indent=2)


def _write_list(path: Path, frames: list[dict[str, Any]]) -> None:
    write_bytes(path, ''.join(f'/{frame["frame_id"]}.jpg\n' for frame in frames).encode())


WRITER = Writer('culane', write_scene, finish, version=2)
