"""tools/compare.py: mistakes in its command line, and LiDAR detectors; camera ones are drawn by the README's test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kitti_tree import KittiTree
from mmengine.config import Config

from perception3d.apis.compare import CompareOptions, compare
from perception3d.checks import InputError
from perception3d.files import read_image
from perception3d.formats.kitti.info import create_infos
from perception3d.registry import MODELS
from perception3d.structures.response_map import response_map, response_tap

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CONFIG = CONFIGS / 'fast_bev' / 'fast_bev_tiny_96x352_9e_sim.py'
BEVFORMER = CONFIGS / 'bev_former' / 'bev_former_tiny_96x352_9e_sim.py'
PILLARS = CONFIGS / 'point_pillars' / 'point_pillars_tiny_c4_10e_kitti_sim.py'


@pytest.mark.parametrize(
    'model, message',
    [
        ('teacher', 'expected TITLE=CONFIG,CHECKPOINT'),
        (f'teacher={CONFIG}', 'expected TITLE=CONFIG,CHECKPOINT'),
        ('teacher=none.py,none.pth', 'none.py does not exist'),
        (f'teacher={CONFIG},none.pth', 'perception3d_infos_sim_val.pkl does not exist'),
    ],
)
def test_models_are_named_by_title_config_and_checkpoint(model, message, tmp_path):
    with pytest.raises(InputError, match=message):
        compare([model], [0], tmp_path, {'data_root': str(tmp_path)})


def test_a_head_of_object_queries_has_no_map_to_draw():
    logits = torch.zeros(3, 8, 8)
    with pytest.raises(InputError, match='BEVFormer cannot be compared.*logits on a map'):
        response_map(MODELS.build(Config.fromfile(BEVFORMER).model), logits)
    with pytest.raises(InputError, match='Identity cannot be compared'):
        response_map(torch.nn.Identity(), logits)


def test_the_logits_are_where_the_model_or_its_class_says():
    model = MODELS.build(Config.fromfile(PILLARS).model)
    assert response_tap(model) == 'bbox_head[0]' and response_tap(torch.nn.Identity()) is None
    for own, tap in (('heat', 'heat'), (None, None), ('', None)):
        model.response_tap = own
        assert response_tap(model) == tap
    del model.response_tap, model.bbox_head
    assert response_tap(model) is None


def test_a_camera_detector_gives_the_best_class_score_of_every_cell():
    model = MODELS.build(Config.fromfile(CONFIG).model)
    logits = torch.randn(10, 6, 4, generator=torch.Generator().manual_seed(0))
    response = response_map(model, logits)
    x0, y0, _, x1, y1, _ = model.view_transforms[0].grid.range_m
    assert response.range_m == (x0, y0, x1, y1)
    np.testing.assert_allclose(response.values, 1 / (1 + np.exp(-logits.numpy().max(0, keepdims=True))), rtol=1e-6)


@pytest.fixture(scope='module')
def cluster_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One frame without objects to test on, whose points are all around one place: 30 m ahead, 10 m to the right."""
    root = KittiTree(tmp_path_factory.mktemp('kitti')).write({'train': ['000000'], 'val': ['000002']})
    points = np.random.default_rng(0).uniform([29.5, -10.5, -1.5, 0], [30.5, -9.5, 0, 1], (400, 4))
    points.astype(np.float32).tofile(root / 'training' / 'velodyne' / '000002.bin')
    create_infos(root, progress=False)
    return root


@pytest.fixture(scope='module')
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a detector that responds where points are: all positive, and a class bias below zero."""
    model = MODELS.build(Config.fromfile(PILLARS).model)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.constant_(parameter, 1 / parameter[0].numel())
    torch.nn.init.constant_(model.bbox_head.conv_cls.weight, 1.0)
    torch.nn.init.constant_(model.bbox_head.conv_cls.bias, -4.0)
    path = tmp_path_factory.mktemp('weights') / 'seeing.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    return path


def test_lidar_detectors_are_drawn_with_their_forward_up(cluster_tree: Path, seeing: Path, tmp_path: Path):
    models = [f'{title}={PILLARS},{seeing}' for title in ('teacher', 'student')]
    (path,) = compare(
        models, [0], tmp_path, {'data_root': str(cluster_tree)}, CompareOptions(score_thr=2.0, device='cpu')
    )
    picture = read_image(path)
    # 40 m wide, from 4 m behind the LiDAR to 40 m ahead, at 12 pixels a metre.
    # The legend has three eighths of a column.
    assert picture.shape == (2 * 44 * 12, 2 * 40 * 12 + 180, 3)
    for column in (0, 480):
        rows, columns = np.nonzero(picture[528:, column : column + 479].sum(2) > 300)
        assert abs(columns.mean() - (20 + 10) * 12) < 24 and abs(rows.mean() - (40 - 30) * 12) < 24
        assert 0 < len(rows) < 0.1 * 528 * 480


def test_a_tap_that_holds_no_map_is_named(cluster_tree: Path, seeing: Path, tmp_path: Path):
    with pytest.raises(InputError, match="student: the tap 'bbox_head' holds no class logits"):
        overrides = {'data_root': str(cluster_tree)}
        options = CompareOptions(logits='bbox_head', device='cpu')
        compare([f'student={PILLARS},{seeing}'], [0], tmp_path, overrides, options)
