"""Samples of clouds on disk, for inference without info files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from perception3d.checks import InputError, require_file
from perception3d.datasets.pipeline_steps import steps_of

CLOUD_SUFFIXES = ('.bin', '.npy')


def cloud_paths(path: str | Path) -> list[Path]:
    """Returns the clouds of a folder by their names, numbers in them by value; a file is returned as it is.

    Raises:
        InputError: the folder holds no cloud.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = [file for file in path.iterdir() if file.suffix in CLOUD_SUFFIXES]
    if not found:
        raise InputError(f'{path}: expected a cloud (.bin or .npy) or a folder of clouds, but there is none in it')
    return sorted(found, key=_by_numbers)


def _by_numbers(file: Path) -> list[tuple[bool, int, str]]:
    """A key that puts 2.bin before 10.bin."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r'(\d+)', file.name)]


def cloud_sample(path: str | Path, pipeline: Any) -> dict[str, Any]:
    """Returns the sample of a cloud, ready for a test pipeline: its file, known by the name of the file.

    The cloud may be without points: then the frame has no boxes.

    Args:
        path: `.bin` (raw float32) or `.npy`, (N, F), where F is the `load_dim` of the pipeline.
        pipeline: mmengine's Compose, or a list of steps.

    Raises:
        InputError: the cloud is missing, the file is not a cloud, or no step of the pipeline loads points.
    """
    path = Path(path)
    if path.suffix not in CLOUD_SUFFIXES:
        raise InputError(f'{path}: expected a cloud (.bin or .npy), not {path.suffix or "a file without a suffix"}')
    num_features = features_of_points(pipeline)
    if num_features is None:
        raise InputError(
            f'{path}: no step of the test pipeline loads points: add LoadCheckedPoints to the pipeline of the test data'
        )
    path = require_file(path).resolve()
    return {
        'sample_idx': 0,
        'frame_id': path.stem,
        'token': path.stem,
        'lidar_points': {'lidar_path': str(path), 'num_pts_feats': num_features, 'may_be_empty': True},
        'lidar_path': str(path),
        'num_pts_feats': num_features,
    }


def features_of_points(pipeline: Any) -> int | None:
    """Returns the floats of a point (`load_dim`) that a pipeline loads; None where it loads no points."""
    return next((step.load_dim for step in steps_of(pipeline) if hasattr(step, 'load_dim')), None)
