"""Loading by the nuScenes LiDAR config: all five columns as they are stored, and bad files by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from painted_tree import PaintedTree

from perception3d.checks import InputError
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.formats.nuscenes.info.build import create_infos

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'datasets' / 'nuscenes_lidar.py'


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A painted tree with infos. Read only."""
    tree = PaintedTree(tmp_path_factory.mktemp('painted'))
    tree.write()
    create_infos(tree.root, progress=False)
    return tree.root


@pytest.fixture(scope='module')
def config() -> Config:
    return Config.fromfile(CONFIG)


def pipelines(config: Config) -> list[list[dict]]:
    loaders = config.train_dataloader.dataset.dataset.pipeline, config.test_dataloader.dataset.pipeline
    return [*loaders, config.tta_pipeline]


def frame(root: Path) -> dict:
    return MultiFrameNuScenesDataset(str(root), 'perception3d_infos_hand_train.pkl', num_frames=1).get_data_info(3)


def test_a_keyframe_has_the_five_columns_of_its_file(tree: Path, config: Config):
    sample = frame(tree)
    stored = np.fromfile(sample['lidar_points']['lidar_path'], np.float32).reshape(-1, 5)
    for steps in pipelines(config):
        np.testing.assert_array_equal(Compose(steps[:1])(frame(tree))['points'].tensor.numpy(), stored)
    # Of the keyframe and its sweeps intensities stay; the ring gives way to the age.
    points = Compose(pipelines(config)[1][:2])(sample)['points'].tensor.numpy()
    np.testing.assert_array_equal(points[: len(stored), :4], stored[:, :4])
    assert not points[: len(stored), 4].any() and len(points) > len(stored)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def spoil(path: Path) -> None:
    points = np.fromfile(path, np.float32)
    points[7] = np.nan
    points.tofile(path)


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (truncate, r'is truncated: \d+ bytes is not a multiple of 20'),
        (spoil, r'holds NaN or infinity in 1 of \d+ points'),
    ],
)
@pytest.mark.parametrize('sweep', [False, True])
def test_a_bad_file_is_named(tree: Path, config: Config, tmp_path: Path, damage, words: str, sweep: bool):
    root = Path(shutil.copytree(tree, tmp_path / 'tree'))
    sample = frame(root)
    path = Path((sample['lidar_sweeps'][0] if sweep else sample)['lidar_points']['lidar_path'])
    assert path.is_relative_to(root)
    damage(path)
    for steps in pipelines(config):
        np.random.seed(0)
        with pytest.raises(InputError, match=f'{path.name} {words}') as error:
            # Nine of ten sweeps are drawn in training: now and then not this one.
            for _ in range(20):
                Compose(steps[:2])(frame(root))
        assert str(root) in str(error.value) and '\n' not in str(error.value)
