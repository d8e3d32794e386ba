"""TuSimple: motorways in `clips/DAY/CLIP/20.jpg`, `label_data_*.json` and `test_label.json`.

An image is the last one of its clip, as the 20th is in TuSimple; the 19 before it are left out. Scenes of the first
split are in `label_data_0313.json` and `label_data_0601.json`, every eighth of them in `label_data_0531.json`, which is
the validation; those of the second are in `test_label.json`. Lanes go up to three on each side of the ego vehicle and
five in all, also where a vehicle hides them, in the rows 160 to 710.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from perception3d.files import write_bytes, write_image
from perception3d.formats.tusimple.files import SLOTS, TEST_FILES, default_rows, format_line
from perception3d.simulation.jobs import SECOND_SPLIT, Job, Request, Writer, train_val_test
from perception3d.simulation.lane_capture import Sampling, record_image, sample_lanes
from perception3d.simulation.profiles import LaneProfile
from perception3d.simulation.rig import TUSIMPLE_CAMERA, draw_forward_camera
from perception3d.simulation.world.lane_scene import make_lane_scene
from perception3d.simulation.world.lane_streets import MOTORWAY

MOST_LANES, JPEG_QUALITY = 5, 90
ODDS = {'normal': 0.72, 'crowd': 0.16, 'shadow': 0.12}
"""What the scenes show: TuSimple has motorways by day."""
DAYS = {'train': ('0313-1', '0601'), 'val': ('0531',), 'test': ('0530',)}
"""Folders of the clips of each split, as in TuSimple."""


def write_scene(job: Job[LaneProfile]) -> dict[str, Any]:
    """Writes the images of a scene; returns the label file that they belong to, and their lines in it."""
    request, profile, split = job.request, job.request.profile, train_val_test(job.index)
    rng = np.random.default_rng([request.seed, job.index, 72])
    category = str(rng.choice(list(ODDS), p=list(ODDS.values())))
    lanes = make_lane_scene(request.seed, job.index, category, MOTORWAY, (profile.frames - 1) * profile.interval_s)
    camera = draw_forward_camera(rng, TUSIMPLE_CAMERA)
    number = job.index % SECOND_SPLIT
    day = DAYS[split][number % len(DAYS[split])]
    rows = np.array(default_rows(camera.height))
    lines = []
    for k in range(profile.frames):
        time_s = k * profile.interval_s
        raw_file = f'clips/{day}/{20 * (number * profile.frames + k)}/20.jpg'
        image = record_image(lanes, camera, time_s, Sampling(profile.oversampling, profile.shrink)).image
        write_image(request.out / raw_file, image, JPEG_QUALITY)
        points = [np.column_stack([lane.x, rows]) for lane in sample_lanes(lanes, camera, time_s, rows, len(SLOTS))]
        inside = [lane[(lane[:, 0] >= 0) & (lane[:, 0] < camera.width)] for lane in points]
        lines.append(format_line(raw_file, inside[:MOST_LANES], rows.tolist()))
    file = TEST_FILES[0] if split == 'test' else f'label_data_{day[:4]}.json'
    return {'file': file, 'lines': lines}


def finish(request: Request[LaneProfile], jobs: list[Job[LaneProfile]], records: list[dict[str, Any]]) -> None:
    """Writes the label files."""
    lines: dict[str, list[str]] = {}
    for record in records:
        lines.setdefault(record['file'], []).extend(record['lines'])
    for file, entries in lines.items():
        write_bytes(request.out / file, ''.join(entries).encode())


WRITER = Writer('tusimple', write_scene, finish, version=2)
