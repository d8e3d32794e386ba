"""Samples of clouds on disk, for inference without info files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perception3d.checks import InputError, require_file
from perception3d.datasets.pipeline_steps import steps_of

CLOUD_SUFFIXES = ('.bin', '.npy')


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
        raise InputError(f'{path}: expected a cloud (.bin or .npy), not {path.suffix or "a folder"}')
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
