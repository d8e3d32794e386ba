"""Frames that a user describes in JSON."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np

from perception3d.datasets.camera_frames import CAMERA_ORDER, read_infos


def test_the_order_of_the_keys_changes_nothing(tmp_path: Path):
    """Cameras come in the order of info files, then by name; each keeps its own matrices, also in the history."""
    names = ['rear', *CAMERA_ORDER, 'left']
    views = {
        name: {
            'img_path': f'{name}.png', 'width': 9, 'height': 9, 'cam2img': (np.eye(3) * (k + 1)).tolist(),
            'lidar2cam': np.eye(4).tolist(),
        }
        for k, name in enumerate(names)
    }  # fmt: skip
    seen = []
    for seed in range(3):
        order = random.Random(seed).sample(names, len(names))
        frame = {
            'images': {name: views[name] for name in order},
            'history': [{'offset_s': -0.5, 'images': {name: views[name] for name in reversed(order)}}],
        }
        (tmp_path / 'frame.json').write_text(json.dumps(frame))
        seen.append(read_infos(tmp_path / 'frame.json')[0])
    assert list(seen[0]['images']) == [*CAMERA_ORDER, 'left', 'rear']
    assert seen[0]['images']['left']['cam2img'][0][0] == len(names)
    texts = {json.dumps(info) for info in seen}
    assert len(texts) == 1
    assert list(seen[0]['history'][0]['images']) == list(seen[0]['images'])
