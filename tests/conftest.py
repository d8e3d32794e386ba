"""Data that tests of several folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from nuscenes_tree import HandmadeTree

import perception3d  # noqa: F401  (relaxes the import asserts of mmdet3d before a test imports it)

# Tensors are small in tests: a pool of threads on a busy machine costs more than it gives.
torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def nuscenes_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A handmade nuScenes tree with info files. Read only: a test that changes something copies it first."""
    from perception3d.formats.nuscenes.info.build import create_infos

    root = tmp_path_factory.mktemp('nuscenes')
    HandmadeTree(root).write({'hand_train': ['scene-a'], 'hand_val': ['scene-b']})
    create_infos(root, progress=False)
    return root


@pytest.fixture(scope='session')
def nuscenes_sample() -> Path:
    """The real nuScenes keyframe; tests that ask for it are skipped where it is missing."""
    root = Path(os.environ.get('PERCEPTION3D_SAMPLES', REPOSITORY.parent / 'shared' / 'samples')) / 'nuscenes'
    if not root.is_dir():
        pytest.skip(f'PERCEPTION3D_SAMPLES: no real frames in {root}')
    return root
