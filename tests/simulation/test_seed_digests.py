"""Seed 0 of the built-in world stays the same: the demo, the shipped checkpoint and all tables were made with it.

A change on purpose raises `WORLD_VERSION`, or the version of the format's writer. Digests are of points, labels and
calibrations as written, of the numbers in tables to 6 decimals (processors differ in the last), and of images before
they are encoded: how JPEG and PNG files are packed depends on the version of OpenCV.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from perception3d.apis.simulate import simulate
from perception3d.formats.culane.simulate import profiles as culane_profiles
from perception3d.formats.culane.simulate import writer as culane_writer
from perception3d.formats.kitti.simulate import profiles as kitti_profiles
from perception3d.formats.kitti.simulate import writer as kitti_writer
from perception3d.formats.nuscenes.simulate import profiles as nuscenes_profiles
from perception3d.formats.nuscenes.simulate import writer as nuscenes_writer
from perception3d.simulation.jobs import Request

TABLES = ('sample_annotation', 'calibrated_sensor', 'ego_pose', 'sample_data', 'instance')


def _digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b''.join(parts)).hexdigest()[:16]


def _make(writer, profiles, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Writes one scene of seed 0 and returns the pixels of its images."""
    images: dict[str, np.ndarray] = {}
    monkeypatch.setattr(writer, 'write_image', lambda path, image, *_: images.update({str(path): image.copy()}))
    simulate(writer.WRITER, Request(folder, 0, profiles.PROFILES['tiny'], 1, 0))
    return [images[name].tobytes() for name in sorted(images)]


def test_nuscenes_of_seed_0_is_the_one_of_all_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _make(nuscenes_writer, nuscenes_profiles, tmp_path, monkeypatch)
    clouds = [path.read_bytes() for path in sorted((tmp_path / 'samples' / 'LIDAR_TOP').iterdir())]
    tables = []
    for name in TABLES:
        text = (tmp_path / 'v1.0-sim' / f'{name}.json').read_text()
        rows = json.loads(text, parse_float=lambda number: round(float(number), 6) + 0.0)
        tables.append(json.dumps(rows).encode())
    # Twelve images and a map.
    assert (len(images), len(clouds)) == (13, 2)
    assert {'images': _digest(images), 'clouds': _digest(clouds), 'tables': _digest(tables)} == {
        'images': '55cf807ebe50c881',
        'clouds': 'cffad07b732a280b',
        'tables': 'e9af7b8adef31f23',
    }


def test_kitti_of_seed_0_is_the_one_of_all_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _make(kitti_writer, kitti_profiles, tmp_path, monkeypatch)
    files = {
        part: [path.read_bytes() for path in sorted(tmp_path.rglob(f'{part}/*'))]
        for part in ('velodyne', 'label_2', 'calib')
    }
    # One frame for training, two for testing.
    assert len(images) == len(files['velodyne']) == 3
    assert {'images': _digest(images)} | {part: _digest(contents) for part, contents in files.items()} == {
        'images': '5bbefa99f0ebd096',
        'velodyne': '5d75abf80bff7dab',
        'label_2': '67c40b15d4504343',
        'calib': 'a0965df8b575c88e',
    }


def test_culane_of_seed_0_is_the_one_of_all_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _make(culane_writer, culane_profiles, tmp_path, monkeypatch)
    lines = [path.read_bytes() for path in sorted(tmp_path.rglob('*.lines.txt'))]
    # Image, mask, depth and classes.
    assert (len(images), len(lines)) == (4, 1)
    assert {'images': _digest(images), 'lines': _digest(lines)} == {
        'images': '883221e4a6cf6664',
        'lines': 'b306da55bcab21c0',
    }
