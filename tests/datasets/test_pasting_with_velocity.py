"""Pasting of nuScenes objects: ten sweeps, five numbers a point, velocities that stay with their boxes."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet3d.datasets.transforms import GlobalRotScaleTrans, LoadPointsFromFile, LoadPointsFromMultiSweeps, RandomFlip3D
from mmdet3d.structures import LiDARInstance3DBoxes
from mmdet3d.structures.points import LiDARPoints
from painted_tree import PaintedTree
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.datasets.ground_truth_database import INFO_FILE
from perception3d.datasets.transforms import lidar_augment
from perception3d.datasets.transforms.lidar_augment import GroundTruthSampler, MoveObjects, PasteObjects
from perception3d.datasets.transforms.lidar_loading import LoadAlignedSweeps, ZeroUnknownVelocities
from perception3d.engine.reproducible import SeededDataset
from perception3d.files import read_pickle, write_pickle
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.formats.nuscenes.info.build import create_infos
from perception3d.formats.nuscenes.info.database import create_database
from perception3d.ops.inside_boxes import rows_in_boxes
from perception3d.registry import DATASETS, HOOKS, MODELS

CENTER_POINT = ('center_point_pillar_cyclic20e_nuscenes', 'center_point_voxel_cyclic20e_nuscenes')
CLASSES = ('pedestrian', 'bicycle', 'car')
INFO = 'perception3d_infos_hand_train.pkl'


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> PaintedTree:
    """A painted tree with infos and database. Read only."""
    tree = PaintedTree(tmp_path_factory.mktemp('painted'))
    tree.write()
    summary = create_infos(tree.root, progress=False)
    create_database({split: entry['path'] for split, entry in summary.items()}, jobs=1, progress=False)
    return tree


def sampler(tree: PaintedTree, **kwargs) -> dict:
    groups = dict(pedestrian=3, bicycle=4, car=4)
    return dict(data_root=str(tree.root), classes=CLASSES, sample_groups=groups, load_dim=5, use_dim=5, **kwargs)


def load(tree: PaintedTree, index: int, steps: list) -> dict:
    sample = MultiFrameNuScenesDataset(str(tree.root), INFO, num_frames=1).get_data_info(index)
    for step in [LoadPointsFromFile(coord_type='LIDAR', load_dim=5, use_dim=5), *steps]:
        sample = step(sample)
    return sample


def in_order(points: np.ndarray) -> np.ndarray:
    """Rows by intensity, which differs from point to point."""
    return points[np.argsort(points[:, 3])]


def frame(boxes: np.ndarray, points: np.ndarray) -> dict:
    return {
        'points': LiDARPoints(points.astype(np.float32), points_dim=5),
        'gt_bboxes_3d': LiDARInstance3DBoxes(boxes.astype(np.float32), box_dim=boxes.shape[1]),
        'gt_labels_3d': np.zeros(len(boxes), np.int64),
    }


def test_sweeps_meet_the_keyframe_where_the_vehicle_turns(tree: PaintedTree):
    settings = dict(sweeps_num=9, use_dim=[0, 1, 2, 3, 4], remove_close=True, test_mode=True)
    expected = in_order(tree.ten_sweeps('sample scene-a 3'))
    found = load(tree, 3, [LoadAlignedSweeps(**settings)])
    np.testing.assert_allclose(in_order(found['points'].tensor.numpy()), expected, atol=2e-5)
    assert len(found['lidar_sweeps']) == 10, 'the entries of the infos stay as they are'
    stock = in_order(load(tree, 3, [LoadPointsFromMultiSweeps(**settings)])['points'].tensor.numpy())
    # When this fails, mmdet3d aligns sweeps itself and LoadAlignedSweeps.transform can go.
    assert np.linalg.norm(stock[:, :3] - expected[:, :3], axis=1).max() > 0.3


def test_training_draws_the_sweeps_that_mmdet3d_draws(tree: PaintedTree):
    seen = []
    for kind in (LoadAlignedSweeps, LoadPointsFromMultiSweeps):
        np.random.seed(3)
        points = load(tree, 4, [kind(sweeps_num=4, use_dim=[0, 1, 2, 4])])['points'].tensor.numpy()
        seen.append(np.round(points[:, 3], 3))
    np.testing.assert_array_equal(seen[0], seen[1])
    assert len(set(seen[0])) == 5


def test_pasting_keeps_velocities_and_adds_exactly_the_points_of_the_objects(tree: PaintedTree):
    entries = {
        tuple(e['box3d_lidar'][:7]): e for objects in read_pickle(tree.root / INFO_FILE).values() for e in objects
    }
    step = PasteObjects(sampler(tree))
    # A box with a velocity, and ground everywhere, whose points have intensity -1.
    own = np.array([[40.0, 40, 0, 4, 2, 1.5, 0.3, 5.0, -2.0]])
    ground = np.random.default_rng(0).uniform(-30, 30, (20000, 5)) * [1, 1, 0.05, 0, 0] + [0, 0, -1.2, -1, 0]
    known = unknown = 0
    for seed in range(10):
        np.random.seed(seed)
        result = step(frame(own, ground))
        boxes, labels = result['gt_bboxes_3d'].tensor.numpy(), result['gt_labels_3d']
        cloud = result['points'].tensor.numpy()
        np.testing.assert_array_equal(boxes[0], own[0].astype(np.float32))
        added = []
        for box, label in zip(boxes[1:], labels[1:]):
            entry = entries[tuple(box[:7])]
            assert CLASSES[label] == entry['name']
            np.testing.assert_array_equal(box, entry['box3d_lidar'])
            known += int(np.isfinite(box[7:]).all())
            unknown += int(np.isnan(box[7:]).all())
            stored = np.fromfile(tree.root / entry['path'], np.float32).reshape(-1, 5)
            added.append(stored + np.float32([*box[:3], 0, 0]))
        np.testing.assert_array_equal(in_order(cloud[cloud[:, 3] >= 0]), in_order(np.concatenate(added)))
        inside = np.concatenate(rows_in_boxes(ground, boxes[1:, :7].astype(np.float64)))
        assert len(inside) > 0
        assert (cloud[:, 3] < 0).sum() == len(ground) - len(set(inside)), 'ground inside a pasted box goes'
    assert known > 20 and unknown > 0


def test_boxes_without_velocity_get_objects_without_and_the_other_way_round_is_an_error(
    tree: PaintedTree, tmp_path: Path
):
    np.random.seed(0)
    result = PasteObjects(sampler(tree))(frame(np.zeros((0, 7)), np.full((3, 5), 90.0)))
    assert result['gt_bboxes_3d'].tensor.shape[1] == 7 and len(result['gt_bboxes_3d']) > 3
    table = read_pickle(tree.root / INFO_FILE)
    flat = {k: [{**e, 'box3d_lidar': e['box3d_lidar'][:7]} for e in objects] for k, objects in table.items()}
    write_pickle(tmp_path / INFO_FILE, flat)
    step = PasteObjects({**sampler(tree), 'data_root': str(tmp_path)})
    with pytest.raises(InputError, match='have 7 numbers, those of the frame 9'):
        step(frame(np.zeros((0, 9)), np.full((3, 5), 90.0)))


def test_large_classes_are_drawn_without_shuffling_them_all(tree: PaintedTree, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lidar_augment, '_MANY_OBJECTS', 5)
    draws = GroundTruthSampler(**sampler(tree))
    np.random.seed(0)
    counts = np.zeros(10)
    for _ in range(500):
        drawn = [id(entry) for entry in draws._draw('car', 4)]
        assert len(set(drawn)) == 4
        counts += [id(entry) in drawn for entry in draws.objects['car']]
    # 500 draws of 4 of 10: 200 each, standard deviation 11.
    assert np.abs(counts - 200).max() < 50
    assert len(draws._draw('car', 99)) == 10


def test_points_are_kept_in_memory_up_to_a_limit(tree: PaintedTree):
    def draw(draws: GroundTruthSampler) -> list:
        np.random.seed(1)
        return [draws.sample_all(np.zeros((0, 9)), np.zeros(0))['points'].tensor.tolist() for _ in range(3)]

    limited = GroundTruthSampler(**sampler(tree, memory_mib=2e-3))
    free = GroundTruthSampler(**sampler(tree))
    assert draw(limited) == draw(free)
    size = sum(points.nbytes for points in limited._points.values())
    assert 0 < size <= 2e-3 * 2**20 < sum(points.nbytes for points in free._points.values())


@pytest.mark.parametrize(
    'step',
    [
        GlobalRotScaleTrans(rot_range=[0.7, 0.7], scale_ratio_range=[1.0, 1.0]),
        GlobalRotScaleTrans(rot_range=[0.0, 0.0], scale_ratio_range=[1.05, 1.05]),
        RandomFlip3D(sync_2d=False, flip_ratio_bev_horizontal=1.0, flip_ratio_bev_vertical=0.0),
        RandomFlip3D(sync_2d=False, flip_ratio_bev_horizontal=0.0, flip_ratio_bev_vertical=1.0),
    ],
    ids=['turn', 'scale', 'mirror y', 'mirror x'],
)
def test_augmentation_moves_velocities_as_it_moves_places(step):
    rng = np.random.default_rng(0)
    now = np.column_stack([rng.uniform(-20, 20, (6, 3)), rng.uniform(1, 4, (6, 3)), rng.uniform(-3, 3, 6)])
    velocity = rng.uniform(-9, 9, (6, 2))
    later = now.copy()
    later[:, :2] += velocity
    boxes = np.column_stack([np.vstack([now, later]), np.vstack([velocity, velocity])])
    # The box of a second later stands where the velocity says, also after the step.
    found = step(frame(boxes, rng.normal(size=(4, 5))))['gt_bboxes_3d'].tensor.numpy()
    np.testing.assert_allclose(found[6:, :2] - found[:6, :2], found[:6, 7:], atol=1e-4)
    assert np.abs(found[:, 7:] - boxes[:, 7:]).max() > 0.1
    boxes[0, 7:] = np.nan
    unknown = step(frame(boxes, rng.normal(size=(4, 5))))['gt_bboxes_3d'].tensor.numpy()
    assert np.isnan(unknown[0, 7:]).all() and np.isfinite(unknown[1:]).all()


def test_a_moved_object_drives_the_way_that_it_looks():
    np.random.seed(0)
    boxes = np.array([[10.0 * k, 0, 0, 4, 2, 1.5, 0.2 * k, 0, 0] for k in range(7)])
    boxes[:, 7:] = 3 * np.column_stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])])
    moved = MoveObjects()(frame(boxes, np.zeros((5, 5))))['gt_bboxes_3d'].tensor.numpy()
    assert np.abs(moved[:, 6] - boxes[:, 6]).min() > 0.01
    ahead = 3 * np.column_stack([np.cos(moved[:, 6]), np.sin(moved[:, 6])])
    np.testing.assert_allclose(moved[:, 7:], ahead, atol=1e-5)


def test_unknown_velocities_become_zero_and_known_ones_stay():
    boxes = np.ones((3, 9))
    boxes[1, 7:] = np.nan
    found = ZeroUnknownVelocities()(frame(boxes, np.zeros((1, 5))))['gt_bboxes_3d'].tensor
    assert found[:, 7:].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert found[:, :7].eq(1).all()
    flat = ZeroUnknownVelocities()(frame(np.ones((2, 7)), np.zeros((1, 5))))['gt_bboxes_3d'].tensor
    assert flat.shape == (2, 7)


@pytest.mark.parametrize('name', CENTER_POINT)
def test_center_point_trains_on_pasted_objects_until_the_last_five_epochs(tree: PaintedTree, name: str):
    config = load_config(config_path(name), {'data_root': str(tree.root)})
    settings = config.train_dataloader.dataset
    settings.dataset.ann_file = INFO
    dataset = SeededDataset(DATASETS.build(settings))
    classes = dataset.metainfo['classes']
    model = MODELS.build(config.model)
    assert list(classes) == [name for names in model.pts_bbox_head.class_names for name in names]
    assert list(config.test_dataloader.dataset.metainfo.classes) == list(classes)
    hook = HOOKS.build(config.custom_hooks[0])
    loader = SimpleNamespace(dataset=dataset, _iterator=None)
    counts = []
    for epoch in (0, 14, 15, 19):
        runner = SimpleNamespace(
            train_dataloader=loader, epoch=epoch, max_epochs=config.train_cfg.max_epochs, logger=logging.getLogger('x')
        )
        hook.before_train_epoch(runner)
        np.random.seed(0)
        sample = dataset[2]
        boxes, points = sample['data_samples'].gt_instances_3d.bboxes_3d.tensor, sample['inputs']['points']
        labels = sample['data_samples'].gt_instances_3d.labels_3d.numpy()
        assert boxes.shape[1] == 9 and points.shape[1] == 5
        assert torch.isfinite(boxes).all() and torch.isfinite(points).all()
        # Sizes tell the classes of the tree apart.
        kinds = [('bicycle', 'car')[int(size > 3)] if size > 1 else 'pedestrian' for size in boxes[:, 3]]
        assert [classes[label] for label in labels] == kinds
        counts.append(len(boxes))
    assert counts[0] == counts[1] > counts[2] == counts[3] > 0


def test_a_missing_database_is_an_error_that_names_the_command(tmp_path: Path):
    config = load_config(config_path(CENTER_POINT[0]), {'data_root': str(tmp_path)})
    with pytest.raises(InputError, match=f'run: python tools/create_data.py nuscenes --database --root {tmp_path}'):
        DATASETS.build(config.train_dataloader.dataset)
