"""The shipped configs of Cylinder3D: sizes, and a step from files to losses, labels and scores on handmade trees."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from lidarseg_tree import LidarsegTree
from mmengine.dataset import pseudo_collate
from semantickitti_tree import write_tree
from shipped import CONFIGS, config_path

from perception3d.apis.config import load_config
from perception3d.apis.inferencer import Inferencer
from perception3d.formats.custom_points import info as custom_points
from perception3d.formats.nuscenes_lidarseg import info as nuscenes_lidarseg
from perception3d.formats.semantickitti import info as semantickitti
from perception3d.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from perception3d.structures.point_labels import IGNORE

# Millions of parameters. The published ones have 20 or 17 outputs and no refinement branch: 55.87, 14.07, 125.5, 14.03.
PARAMETERS = {
    'cylinder3d_w100_480x360x32_40e_semantickitti': 55.902,
    'cylinder3d_w050_480x360x32_40e_semantickitti': 14.092,
    'cylinder3d_w150_480x360x32_40e_semantickitti': 125.544,
    'cylinder3d_w050_480x360x32_3scan_40e_semantickitti': 14.104,
    'cylinder3d_w100_480x360x32_released_semantickitti': 49.596,
    'cylinder3d_w050_480x360x32_released_semantickitti': 12.503,
    'cylinder3d_w150_480x360x32_released_semantickitti': 111.389,
    'cylinder3d_w050_480x360x32_3scan_released_semantickitti': 12.513,
    'cylinder3d_w050_480x360x32_released_nuscenes_lidarseg': 12.463,
    'cylinder3d_w100_480x360x32_40e_nuscenes_lidarseg': 55.891,
    'cylinder3d_w050_480x360x32_40e_nuscenes_lidarseg': 14.040,
    'cylinder3d_w050_480x360x32_40e_custom_points': 14.058,
    'cylinder3d_tiny_120x90x16_12e_semantickitti_sim': 3.512,
    'cylinder3d_tiny_half_120x90x16_12e_semantickitti_sim': 0.890,
    'cylinder3d_tiny_240x180x32_overfit_sample': 3.564,
}
SMALL = dict(width=2, compressed_channels=3, point_channels=8, grid_shape=[20, 18, 8])


def test_all_configs_have_the_sizes_that_they_state():
    assert {path.stem for path in (CONFIGS / 'cylinder3d').glob('*.py')} == set(PARAMETERS)
    for name, millions in PARAMETERS.items():
        with torch.device('meta'):
            model = MODELS.build(load_config(config_path(name)).model)
        assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(millions, abs=6e-4), name
        low, high = (model.data_preprocessor.partition.low[2], model.data_preprocessor.partition.high[2])
        assert (low, high) == ((-5, 3) if 'nuscenes' in name else (-4, 2))
        classes = {'nuscenes_lidarseg': 16, 'custom_points': 2}
        expected = 25 if '3scan' in name else next((classes[key] for key in classes if name.endswith(key)), 19)
        assert model.net.num_classes == expected


OWN = dict(class_names=['tree', 'road', 'car'], num_features=5, point_columns=[3, 4])


def _write_clouds(root):
    """Two clouds of 60 points with five floats to train and one to test on."""
    for folder in ('ImageSets', 'points', 'labels'):
        (root / folder).mkdir()
    (root / 'classes.json').write_text(json.dumps({'classes': {'road': 40, 'car': [10, 252], 'tree': 7, 'mast': 8}}))
    for seed, (name, split) in enumerate([('a', 'train'), ('b', 'train'), ('c', 'val')]):
        rng = np.random.default_rng(seed)
        rng.normal(0, [9, 9, 1, 1, 1], (60, 5)).astype('<f4').tofile(root / 'points' / f'{name}.bin')
        np.resize(np.array([40, 10, 252, 7, 8, 0], '<u4'), 60).tofile(root / 'labels' / f'{name}.label')
        with (root / 'ImageSets' / f'{split}.txt').open('a') as file:
            file.write(f'{name}\n')
    custom_points.create_infos(root, 5, jobs=1, progress=False)
    return root


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    kitti = write_tree(tmp_path_factory.mktemp('semantickitti'), {'00': 3, '08': 2})
    semantickitti.create_infos(kitti, progress=False)
    nuscenes = LidarsegTree(tmp_path_factory.mktemp('lidarseg')).write()
    nuscenes_lidarseg.create_infos(nuscenes, jobs=1, progress=False)
    own = _write_clouds(tmp_path_factory.mktemp('own'))
    return {'semantickitti': kitti, 'nuscenes_lidarseg': nuscenes, 'custom_points': own}


def _config(name, options):
    config = load_config(config_path(name), options)
    for loader in (config.train_dataloader, config.val_dataloader):
        # mmengine collects garbage for a second where it serializes.
        loader.dataset.serialize_data = False
    return config


def _small(name, trees, data, **options):
    options = {'data_root': str(trees[data]), **options}
    if data == 'nuscenes_lidarseg':
        stem = 'perception3d_infos_lidarseg_mini_'
        options.update(train_ann_file=f'{stem}train.pkl', val_ann_file=f'{stem}val.pkl')
    return _config(name, options)


@pytest.mark.parametrize(
    'name',
    [
        'cylinder3d_w050_480x360x32_40e_semantickitti',
        'cylinder3d_w050_480x360x32_3scan_40e_semantickitti',
        'cylinder3d_w050_480x360x32_40e_nuscenes_lidarseg',
        'cylinder3d_w050_480x360x32_40e_custom_points',
    ],
)
def test_a_step_from_files_to_scores(name, trees):
    data = name.partition('_40e_')[2]
    config = _small(name, trees, data, **SMALL, **(OWN if data == 'custom_points' else {}))
    torch.manual_seed(0)
    np.random.seed(0)
    model = MODELS.build(config.model)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    batch = pseudo_collate([dataset[0], dataset[len(dataset) - 1]])
    losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
    assert sorted(losses) == ['loss_point_ce', 'loss_voxel_ce', 'loss_voxel_lovasz']
    assert all(torch.isfinite(value) for value in losses.values())
    held_out = DATASETS.build(config.val_dataloader.dataset)
    metric = METRICS.build(config.val_evaluator)
    metric.dataset_meta = held_out.metainfo
    for index in range(len(held_out)):
        sample = held_out[index]
        with torch.no_grad():
            (predicted,) = model.eval().test_step(pseudo_collate([sample]))
        labels = predicted.pred_pts_seg.pts_semantic_mask
        assert len(labels) == len(sample['inputs']['points']) and int(labels.max()) < len(config.class_names) < IGNORE
        metric.process({}, [predicted.to_dict()])
    scores = metric.evaluate(len(held_out))
    assert 0 <= next(value for key, value in scores.items() if key.endswith('/miou')) <= 1


def test_a_cloud_far_from_its_tree_gets_the_ids_that_the_checkpoint_keeps(trees, tmp_path):
    config = _small('cylinder3d_w050_480x360x32_40e_custom_points', trees, 'custom_points', **SMALL, **OWN)
    torch.manual_seed(0)
    meta = {'dataset_meta': DATASETS.build(config.train_dataloader.dataset).metainfo}
    torch.save({'state_dict': MODELS.build(config.model).state_dict(), 'meta': meta}, tmp_path / 'a.pth')
    shutil.copy(trees['custom_points'] / 'points' / 'c.bin', tmp_path / 'cloud.bin')
    _, described, result = Inferencer(config, tmp_path / 'a.pth', 'cpu').write(tmp_path / 'cloud.bin', tmp_path / 'out')
    labels = json.loads(described.read_text())['point_labels']['labels']
    assert result.name == 'cloud.label' and len(labels) == 60
    assert np.fromfile(result, '<u4').tolist() == [[7, 40, 10][label] for label in labels]


def test_a_step_of_point_to_voxel_distillation_on_nuscenes(trees, tmp_path):
    name = 'pvd_cylinder3d_w050_480x360x32_40e_nuscenes_lidarseg'
    config = _small(name, trees, 'nuscenes_lidarseg', grid_shape=[20, 18, 8], point_hidden=[8])
    config.model.student.net.update(width=2, point_channels=8, compressed_channels=3)
    config.model.teacher.net.update(width=4, point_channels=16, compressed_channels=6)
    torch.manual_seed(0)
    np.random.seed(0)
    torch.save({'state_dict': MODELS.build(config.model.teacher).state_dict()}, tmp_path / 'teacher.pth')
    config.model.teacher_checkpoint = str(tmp_path / 'teacher.pth')
    model, dataset = MODELS.build(config.model), DATASETS.build(config.train_dataloader.dataset)
    named = [expected.class_names for expected in model.expected_by_links().values() if expected.class_names]
    assert named and all(list(names.value) == list(dataset.metainfo['classes']) for names in named)
    rare = set(config.model.links.voxel_affinity.loss.supervoxels.minority)
    common = {'car', 'truck', 'driveable_surface', 'sidewalk', 'terrain', 'manmade', 'vegetation'}
    assert rare == set(config.class_names) - common
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    losses = model.train()(**batch, mode='loss')
    found = {key: value for key, value in losses.items() if key.startswith('distill.') and key.endswith('.loss')}
    assert len(found) == 4 and all(torch.isfinite(value) and value > 0 for value in found.values())


def test_training_moves_points_and_testing_keeps_them(trees):
    options = {'data_root': str(trees['semantickitti']), **SMALL}
    config = _config('cylinder3d_w050_480x360x32_40e_semantickitti', options)
    dataset = DATASETS.build(config.val_dataloader.dataset)
    stored = np.fromfile(dataset.get_data_info(0)['lidar_points']['lidar_path'], np.float32).reshape(-1, 4)
    assert np.array_equal(dataset[0]['inputs']['points'].numpy(), stored)
    train = DATASETS.build(config.train_dataloader.dataset)
    first, second = train[0], train[0]
    labels = [sample['data_samples'].gt_pts_seg.pts_semantic_mask for sample in (first, second)]
    assert torch.equal(*labels) and not torch.equal(first['inputs']['points'], second['inputs']['points'])
    assert len(TRANSFORMS.build(config.tta_pipeline[-1]).views) == 12
