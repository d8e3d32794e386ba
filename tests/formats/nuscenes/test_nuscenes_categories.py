"""Categories of nuScenes-format tables have a class or are counted; splits are joined in a file or by a wrapper."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.registry import init_default_scope

from perception3d.checks import InputError
from perception3d.datasets.balanced import SeededCBGSDataset
from perception3d.files import read_pickle
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.formats.nuscenes.evaluation.metric import NuScenesDetectionMetric
from perception3d.formats.nuscenes.files import CLASSES
from perception3d.registry import DATASETS
from tools import create_data

TRAIN, VAL = 'perception3d_infos_hand_train.pkl', 'perception3d_infos_hand_val.pkl'


@pytest.fixture
def tree(nuscenes_tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nuscenes_tree, tmp_path / 'tree', copy_function=os.link))


def _create(root, *options):
    for path in root.glob('*.pkl'):
        path.unlink()
    create_data.main(['nuscenes', '--root', str(root), *options])


def _boxes(root, name=TRAIN):
    content = read_pickle(root / name)
    names = list(content['metainfo']['categories'])
    return Counter(names[box['bbox_label_3d']] for info in content['data_list'] for box in info['instances'])


def test_dropped_categories_are_counted_and_can_be_given_a_class(tree, capsys):
    _create(tree)
    before = _boxes(tree)
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if 'are dropped' in line]
    assert len(lines) == 2 and 'of animal' in lines[0] and '=CLASS keeps one' in lines[0]
    _create(tree, '--map', 'animal=animal')
    after = _boxes(tree)
    count = int(lines[0].split(' of animal')[0].split()[-1].strip(':'))
    assert after == before + Counter(animal=count) and count > 0
    data = MultiFrameNuScenesDataset(str(tree), TRAIN, num_frames=1)
    assert data.metainfo['classes'] == (*CLASSES, 'animal')
    assert data.metainfo['category_map']['animal'] == 'animal'
    assert len(data.get_cat_ids(0)) and 10 in set().union(*(data.get_cat_ids(k) for k in range(len(data))))
    # By name, whatever the order of the file.
    own = MultiFrameNuScenesDataset(str(tree), TRAIN, num_frames=1, metainfo=dict(classes=['animal', 'car']))
    assert set().union(*(own.get_cat_ids(k) for k in range(len(own)))) == {0, 1}


def test_fewer_classes_in_another_order(tree, capsys):
    _create(tree, '--classes', 'pedestrian', 'car')
    assert list(read_pickle(tree / TRAIN)['metainfo']['categories']) == ['pedestrian', 'car']
    assert set(_boxes(tree)) == {'pedestrian', 'car'} and 'of vehicle.bicycle' in capsys.readouterr().out
    assert MultiFrameNuScenesDataset(str(tree), TRAIN, num_frames=1).metainfo['classes'] == ('pedestrian', 'car')
    with pytest.raises(InputError, match="unknown class .* 'truck'"):
        MultiFrameNuScenesDataset(str(tree), TRAIN, metainfo=dict(classes=['truck']))


@pytest.mark.parametrize(
    'options, message',
    [
        (['--map', 'vehicle.cars=car'], "unknown category .*'vehicle.cars': did you mean 'vehicle.car'"),
        (['--map', 'animal'], 'expected CATEGORY=CLASS'),
        (['--map', 'animal=dog', 'animal=cat'], 'two classes, dog and cat'),
        (['--map', 'animal=dog', '--classes', 'car'], "unknown class .*'dog'"),
        (['--classes', 'car', 'crane'], "no category has the class 'crane': give it one with --map"),
        (['--classes', 'car', 'car'], 'twice'),
    ],
)
def test_unknown_names_are_one_line(nuscenes_tree, options, message):
    with pytest.raises(InputError, match=message):
        create_data.main(['nuscenes', '--root', str(nuscenes_tree), *options])


def test_splits_are_joined_in_one_file(tree):
    _create(tree, '--trainval')
    whole = read_pickle(tree / 'perception3d_infos_hand_trainval.pkl')
    parts = [read_pickle(tree / name)['data_list'] for name in (TRAIN, VAL)]
    tokens = [info['token'] for part in parts for info in part]
    assert [info['token'] for info in whole['data_list']] == tokens and whole['metainfo']['split'] == 'hand_trainval'
    assert [info['sample_idx'] for info in whole['data_list']] == list(range(len(tokens)))


def test_joined_splits_can_be_balanced_and_repeated(nuscenes_tree):
    init_default_scope('mmdet3d')
    parts = [
        dict(type=MultiFrameNuScenesDataset, data_root=str(nuscenes_tree), ann_file=name, num_frames=1)
        for name in (TRAIN, VAL)
    ]
    both = DATASETS.build(dict(type='ConcatDataset', datasets=parts))
    sizes = [len(part) for part in both.datasets]
    assert len(both) == sum(sizes) and both.metainfo['split'] == 'hand_train+hand_val'
    assert both.get_cat_ids(sizes[0]) == both.datasets[1].get_cat_ids(0)
    balanced = DATASETS.build(dict(type=SeededCBGSDataset, dataset=dict(type='ConcatDataset', datasets=parts)))
    drawn = [both.get_data_info(index)['token'] for index in balanced.sample_indices]
    assert [balanced.get_data_info(k)['token'] for k in range(len(balanced))] == drawn
    assert max(balanced.sample_indices) >= sizes[0] > min(balanced.sample_indices)
    assert balanced.metainfo['version'] == 'v1.0-hand' and balanced.metainfo['classes'] == CLASSES
    assert SeededCBGSDataset(both).sample_indices == balanced.sample_indices
    joined = dict(type='ConcatDataset', datasets=parts)
    repeated = RepeatDataset(dict(type=SeededCBGSDataset, dataset=joined), 2)
    assert len(repeated) == 2 * len(balanced) and repeated.get_cat_ids(0) == balanced.get_cat_ids(0)
    assert len(SeededCBGSDataset(RepeatDataset(joined, 2))) >= 2 * len(balanced)
    assert len(ClassBalancedDataset(joined, oversample_thr=1e-3)) >= len(both)
    single = MultiFrameNuScenesDataset(str(nuscenes_tree), TRAIN, num_frames=1)
    other = MultiFrameNuScenesDataset(str(nuscenes_tree), VAL, num_frames=1, metainfo=dict(classes=['car']))
    with pytest.raises(InputError, match='ConcatDataset joins data sets that differ in classes'):
        ConcatDataset([single, other])
    assert len(ConcatDataset([single, other], ignore_keys=['classes', 'palette'])) == sum(sizes)


def test_mmdet_joins_splits_as_mmengine_does(nuscenes_tree):
    from mmdet.datasets import ConcatDataset as OfMMDet

    parts = [
        dict(type=MultiFrameNuScenesDataset, data_root=str(nuscenes_tree), ann_file=name, num_frames=1)
        for name in (TRAIN, VAL)
    ]
    both = DATASETS.build(dict(type=OfMMDet, datasets=parts))
    sizes = [len(part) for part in both.datasets]
    assert both.metainfo['split'] == 'hand_train+hand_val' and both.metainfo['classes'] == CLASSES
    assert both.metainfo['cumulative_sizes'] == [sizes[0], sum(sizes)]
    assert both.get_dataset_source(sizes[0]) == 1 and both.get_cat_ids(sizes[0]) == both.datasets[1].get_cat_ids(0)
    assert SeededCBGSDataset(both).sample_indices == SeededCBGSDataset(ConcatDataset(parts)).sample_indices
    parts[1]['metainfo'] = dict(classes=['car'])
    with pytest.raises(InputError, match='ConcatDataset joins data sets that differ in classes'):
        OfMMDet(parts)


def test_mmengine_still_refuses_splits(nuscenes_tree):
    """When this fails, `compat/dataset_wrappers.py` can go."""
    parts = [MultiFrameNuScenesDataset(str(nuscenes_tree), name, num_frames=1) for name in (TRAIN, VAL)]
    stock = ConcatDataset.__init__.__closure__
    original = next(cell.cell_contents for cell in stock if getattr(cell.cell_contents, '__name__', '') == '__init__')
    with pytest.raises(ValueError, match='does not match meta information'):
        original(ConcatDataset.__new__(ConcatDataset), parts)


def test_own_classes_are_scored(tree):
    """Boxes equal to the truth score 1 in each class that has any, also in one that the devkit does not know."""
    _create(tree, '--map', 'animal=animal', '--classes', 'animal', 'car')
    init_default_scope('mmdet3d')
    data = MultiFrameNuScenesDataset(str(tree), TRAIN, num_frames=1, test_mode=True)
    metric = NuScenesDetectionMetric(str(tree))
    metric.dataset_meta = data.metainfo
    metric.check_classes(data.metainfo['classes'])
    with pytest.raises(InputError, match='unknown class of the nuScenes benchmark'):
        metric.check_classes(('crane',))
    for index in range(len(data)):
        sample, truth = data.get_data_info(index), data.get_ann_info(index)
        labels = torch.from_numpy(truth['gt_labels_3d'])
        found = dict(bboxes_3d=truth['gt_bboxes_3d'], scores_3d=torch.ones(len(labels)), labels_3d=labels)
        metric.process({}, [{**sample, 'pred_instances_3d': found}])
    scores = metric.compute_metrics(metric.results)
    names = {key.split('/')[1] for key in scores if key.startswith('AP/')}
    assert names == {'animal', 'car'}
    assert [scores[key] for key in ('AP/animal', 'AP/car', 'mAP')] == pytest.approx([1.0, 1.0, 1.0])
    assert scores['ATE/animal'] < 1e-3 and scores['ASE/animal'] < 1e-3
