"""The KITTI data set: what a sample carries, what it refuses, and the pipelines of the base config on it."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from kitti_tree import POINTS_IN_BOX, KittiTree
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from perception3d.checks import InputError
from perception3d.files import read_pickle, write_pickle
from perception3d.formats.kitti.dataset import FRAME_META_KEYS, KittiFrameDataset
from perception3d.formats.kitti.files import read_calibration, read_objects
from perception3d.formats.kitti.info import create_infos
from perception3d.registry import DATASETS, METRICS

CONFIG = Path(__file__).resolve().parents[3] / 'configs' / '_base_' / 'datasets' / 'kitti_lidar.py'
TRAIN = ['000000', '000002', '000004']


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> KittiTree:
    tree = KittiTree(tmp_path_factory.mktemp('kitti'))
    tree.write({'train': TRAIN, 'val': ['000001', '000005'], 'test': ['000003']})
    create_infos(tree.root, progress=False)
    return tree


def load(tree: KittiTree, split: str = 'train', **kwargs) -> KittiFrameDataset:
    return KittiFrameDataset(str(tree.root), f'perception3d_infos_{split}.pkl', **kwargs)


def of_config(tree: KittiTree, split: str) -> torch.utils.data.Dataset:
    """The data set of the base config, on the tree."""
    init_default_scope('mmdet3d')
    settings = copy.deepcopy(Config.fromfile(str(CONFIG))[f'{split}_dataloader']['dataset'])
    inner = settings['dataset'] if split == 'train' else settings
    inner['data_root'] = str(tree.root)
    for step in inner['pipeline']:
        if 'db_sampler' in step:
            step['db_sampler']['data_root'] = str(tree.root)
    return DATASETS.build(settings)


def test_a_sample_is_known_by_its_frame_and_carries_its_camera(tree: KittiTree):
    sample = load(tree).get_data_info(2)
    assert sample['frame_id'] == sample['token'] == '000004'
    assert sample['lidar_path'] == str(tree.root / 'training' / 'velodyne' / '000004.bin')
    assert [Path(path).is_file() for path in sample['img_paths']] == [True]
    assert sample['stored_hw'] == [(375, 1242)] and sample['only_ahead']
    calibration = read_calibration(tree.root / 'training' / 'calib' / '000004.txt')
    np.testing.assert_allclose(sample['cam_from_lidar'], calibration.cam_from_lidar()[None])
    np.testing.assert_allclose(sample['stored_from_cam'], calibration.img_from_cam()[None])
    np.testing.assert_allclose(sample['img_from_lidar'], sample['stored_from_cam'] @ sample['cam_from_lidar'])


def test_boxes_of_the_classes_are_there_and_no_others(tree: KittiTree):
    names, boxes = tree.boxes['000000']
    found = load(tree).get_ann_info(0)
    expected = [('Pedestrian', 'Cyclist', 'Car').index(name) for name in names if name != 'Van']
    assert found['gt_labels_3d'].tolist() == expected
    own = np.array([box for name, box in zip(names, boxes) if name != 'Van'])
    np.testing.assert_allclose(found['gt_bboxes_3d'].tensor[:, :6], own[:, :6], atol=0.02)
    assert found['difficulty'].shape == found['num_lidar_pts'].shape == (4,)
    vans = load(tree, metainfo=dict(classes=('Van', 'Car'))).get_ann_info(0)
    assert vans['gt_labels_3d'].tolist() == [('Van', 'Car').index(n) for n in names if n in ('Van', 'Car')]


def test_testing_keeps_frames_without_objects_and_their_labels_for_the_metric(tree: KittiTree):
    dataset = load(tree, 'val', test_mode=True)
    assert [dataset.get_data_info(k)['frame_id'] for k in range(2)] == ['000001', '000005']
    sample = dataset[0]
    assert 'ann_info' not in sample
    assert len(sample['eval_ann_info']['gt_bboxes_3d']) == 4
    empty = dataset.get_ann_info(1)
    assert empty['gt_bboxes_3d'].tensor.shape == (0, 7)
    assert dataset.get_cat_ids(1) == set()
    assert load(tree, 'val', test_mode=True, load_eval_anns=False)[0].get('eval_ann_info') is None


def test_frames_without_labels_can_be_tested_on_but_not_trained_on(tree: KittiTree):
    dataset = load(tree, 'test', test_mode=True)
    sample = dataset[0]
    assert sample['lidar_path'].endswith('testing/velodyne/000003.bin')
    assert 'eval_ann_info' not in sample
    with pytest.raises(InputError, match='frame 000003 of .* has no labels'):
        dataset.get_ann_info(0)
    with pytest.raises(InputError, match='has frames without labels'):
        load(tree, 'test')


def test_other_info_files_are_refused_with_the_command_that_makes_them(tree: KittiTree, tmp_path: Path):
    command = rf'python tools/create_data.py kitti --root {tmp_path}'
    path = tmp_path / 'infos.pkl'
    with pytest.raises(InputError, match=f'does not exist: run: {command}'):
        KittiFrameDataset(str(tmp_path), 'infos.pkl')
    content = read_pickle(tree.root / 'perception3d_infos_train.pkl')
    write_pickle(path, content['data_list'])
    with pytest.raises(InputError, match='is not an info file'):
        KittiFrameDataset(str(tmp_path), 'infos.pkl')
    write_pickle(path, {**content, 'data_list': []})
    with pytest.raises(InputError, match='holds no frames'):
        KittiFrameDataset(str(tmp_path), 'infos.pkl')
    write_pickle(path, {**content, 'data_list': [[[1]]]})
    with pytest.raises(InputError, match='data_list is not a list of frames'):
        KittiFrameDataset(str(tmp_path), 'infos.pkl')
    stock = [{key: info[key] for key in info if key != 'frame_id'} for info in content['data_list']]
    write_pickle(path, {**content, 'data_list': stock})
    with pytest.raises(InputError, match=f'made by another tool .*{command}'):
        KittiFrameDataset(str(tmp_path), 'infos.pkl')
    write_pickle(path, {'metainfo': {'dataset': 'lidar'}, 'data_list': content['data_list']})
    with pytest.raises(InputError, match="for 'lidar', not for 'kitti'"):
        KittiFrameDataset(str(tmp_path), 'infos.pkl')


def test_a_class_that_no_label_has_gets_the_nearest_name(tree: KittiTree):
    with pytest.raises(InputError, match="unknown class .*'Pedestrain'.*'Pedestrian'"):
        load(tree, metainfo=dict(classes=('Pedestrain',)))
    with pytest.raises(InputError, match="unknown class .*'DontCare'"):
        load(tree, metainfo=dict(classes=('DontCare',)))


def test_the_training_pipeline_of_the_base_config(tree: KittiTree):
    np.random.seed(0)
    torch.manual_seed(0)
    dataset = of_config(tree, 'train')
    assert len(dataset) == 6
    packed = dataset[0]
    points, sample = packed['inputs']['points'], packed['data_samples']
    assert points.shape[1] == 4
    low, high = np.array([0, -39.68, -3]), np.array([69.12, 39.68, 1])
    assert ((points[:, :3].numpy() > low) & (points[:, :3].numpy() < high)).all()
    assert sample.metainfo['frame_id'] == '000000'
    assert set(sample.metainfo) <= set(FRAME_META_KEYS)
    assert sample.metainfo['lidar_axes'] == 'x forward, y left'
    truth = sample.gt_instances_3d
    assert len(truth.bboxes_3d) == len(truth.labels_3d)
    assert truth.labels_3d.dtype == torch.int64
    # Frame 000002 has no objects of its own: it stays, with those that are pasted into it.
    assert {dataset[1]['data_samples'].metainfo['frame_id'] for _ in range(4)} == {'000002'}


def test_the_test_pipeline_of_the_base_config_keeps_every_frame(tree: KittiTree):
    dataset = of_config(tree, 'val')
    for index, frame_id in enumerate(('000001', '000005')):
        packed = dataset[index]
        metas = packed['data_samples'].metainfo
        assert metas['frame_id'] == frame_id
        for key in ('cam_from_lidar', 'stored_from_cam', 'img_from_lidar'):
            assert np.asarray(metas[key]).shape == (1, 4, 4)
        assert metas['stored_hw'] == [(375, 1242)]
        assert metas['lidar_path'].endswith(f'{frame_id}.bin')
        assert len(packed['inputs']['points']) > POINTS_IN_BOX
        assert packed['data_samples'].eval_ann_info is not None


def test_the_metric_of_the_base_config_gets_what_it_needs(tree: KittiTree, tmp_path: Path):
    dataset = of_config(tree, 'val')
    settings = Config.fromfile(str(CONFIG))['val_evaluator']
    settings.update(gt_dir=str(tree.root / 'training' / 'label_2'), format_dir=str(tmp_path), prefix='x')
    metric = METRICS.build(settings)
    metric.dataset_meta = dataset.metainfo
    for index in range(2):
        sample = dataset[index]['data_samples']
        truth = sample.eval_ann_info
        sample.pred_instances_3d = InstanceData(
            bboxes_3d=truth['gt_bboxes_3d'],
            labels_3d=torch.from_numpy(truth['gt_labels_3d']),
            scores_3d=torch.ones(len(truth['gt_labels_3d'])),
        )
        metric.process(None, [sample.to_dict()])
    # One object, found: the first of the eleven recalls.
    assert metric.evaluate(2)['x/3d/car/moderate/R11'] == pytest.approx(100 / 11)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['000001.txt', '000005.txt']
    written = read_objects(tmp_path / '000001.txt', scored=True)
    stored = read_objects(tree.root / 'training' / 'label_2' / '000001.txt')
    stored = stored.select(np.isin(stored.names, ('Car', 'Pedestrian', 'Cyclist')))
    assert written.names.tolist() == stored.names.tolist()
    np.testing.assert_allclose(written.bottom_centers_m, stored.bottom_centers_m, atol=0.011)
    np.testing.assert_allclose(written.boxes_2d, stored.boxes_2d, atol=3)


def test_a_bad_cloud_is_named_when_it_is_trained_on(tree: KittiTree, tmp_path: Path):
    root = Path(shutil.copytree(tree.root, tmp_path / 'tree'))
    broken = KittiTree(root)
    dataset = of_config(broken, 'train')
    path = root / 'training' / 'velodyne' / '000000.bin'
    points = np.fromfile(path, np.float32)
    points[6] = np.nan
    points.tofile(path)
    with pytest.raises(
        InputError, match=r'velodyne/000000.bin holds NaN or infinity in 1 of 650 points \(first: point 1'
    ):
        dataset[0]
    path.write_bytes(b'')
    with pytest.raises(InputError, match=r'000000.bin holds no points'):
        dataset[0]
    path.write_bytes(b'123')
    with pytest.raises(InputError, match=r'000000.bin is truncated'):
        dataset[0]
    path.unlink()
    with pytest.raises(InputError, match=r'000000.bin does not exist'):
        dataset[0]
