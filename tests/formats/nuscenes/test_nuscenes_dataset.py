"""The multi-frame data set: what it selects, what it refuses, and that mmdet3d's wrappers work on it."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.datasets import CBGSDataset
from nuscenes_tree import HandmadeTree

from perception3d.checks import InputError
from perception3d.datasets.balanced import SeededCBGSDataset
from perception3d.files import read_pickle
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.formats.nuscenes.info.build import create_infos
from perception3d.geometry.camera import transform

INFO = 'perception3d_infos_hand_train.pkl'


def load(root: Path, **kwargs) -> MultiFrameNuScenesDataset:
    return MultiFrameNuScenesDataset(str(root), kwargs.pop('ann_file', INFO), **kwargs)


def test_flat_arrays_are_frame_times_cameras_plus_camera(nuscenes_tree: Path):
    infos = read_pickle(nuscenes_tree / INFO)['data_list']
    dataset = load(nuscenes_tree)
    for index in (0, 4):
        sample, info = dataset.get_data_info(index), infos[index]
        names = list(info['images'])
        assert sample['cam_names'] == names
        assert sample['num_frames'] == 4
        frames = [info['images'], *(entry['images'] for entry in info['history'])]
        for flat in range(16):
            image = frames[flat // 4][names[flat % 4]]
            assert sample['img_paths'][flat] == str(nuscenes_tree / image['img_path'])
            assert Path(sample['img_paths'][flat]).is_file()
            assert sample['stored_hw'][flat] == (image['height'], image['width'])
            np.testing.assert_array_equal(sample['cam_from_lidar'][flat], image['lidar2cam'])
            np.testing.assert_array_equal(sample['stored_from_cam'][flat, :3, :3], image['cam2img'])
            assert sample['img_timestamps_s'][flat] == image['timestamp']


def test_frames_and_cameras_are_chosen_by_number_time_and_name(nuscenes_tree: Path):
    whole = load(nuscenes_tree).get_data_info(4)
    two = load(nuscenes_tree, num_frames=2).get_data_info(4)
    assert two['img_paths'] == whole['img_paths'][:8]
    chosen = load(nuscenes_tree, offsets_s=(-1.5, -0.5), cameras=('CAM_BACK', 'CAM_BACK_RIGHT')).get_data_info(4)
    names = whole['cam_names']
    rows = [4 * frame + names.index(name) for frame in (0, 3, 1) for name in ('CAM_BACK', 'CAM_BACK_RIGHT')]
    assert chosen['img_paths'] == [whole['img_paths'][row] for row in rows]
    np.testing.assert_array_equal(chosen['cam_from_lidar'], whole['cam_from_lidar'][rows])
    assert load(nuscenes_tree, num_frames=1).get_data_info(0)['num_frames'] == 1


def test_unknown_velocities_stay_nan_and_boxes_without_points_go(nuscenes_tree: Path):
    ann = load(nuscenes_tree).get_ann_info(1)
    boxes = ann['gt_bboxes_3d']
    assert len(boxes) == len(ann['gt_labels_3d']) == 5
    assert torch.isnan(boxes.tensor[:, 7:]).all(1).sum() == 1
    assert not torch.isnan(boxes.tensor[:, :7]).any()
    info = read_pickle(nuscenes_tree / INFO)['data_list'][1]
    seen = [box for box in info['instances'] if box['num_lidar_pts']]
    np.testing.assert_allclose(boxes.gravity_center.numpy(), [box['bbox_3d'][:3] for box in seen], atol=1e-5)
    assert len(load(nuscenes_tree, with_velocity=False).get_ann_info(1)['gt_bboxes_3d'].tensor[0]) == 7


def test_a_point_of_the_world_is_seen_where_it_is_from_every_frame(nuscenes_tree: Path):
    """A parked point, carried through the current LiDAR frame into history cameras, is where their keyframes see it."""
    dataset = load(nuscenes_tree)
    sample, past = dataset.get_data_info(4), dataset.get_data_info(3)
    assert past['img_paths'][:4] == sample['img_paths'][4:8]
    point = np.array([[5.0, 9.0, 1.0]])
    world = transform(point, sample['global_from_ego'] @ sample['ego_from_lidar'])
    in_past = transform(world, np.linalg.inv(past['global_from_ego'] @ past['ego_from_lidar']))
    for camera in range(4):
        there = transform(point, sample['cam_from_lidar'][4 + camera])
        np.testing.assert_allclose(there, transform(in_past, past['cam_from_lidar'][camera]), atol=1e-8)


def test_meta_information_comes_from_the_file(nuscenes_tree: Path):
    meta = load(nuscenes_tree, test_mode=True).metainfo
    assert (meta['version'], meta['split'], len(meta['classes'])) == ('v1.0-hand', 'hand_train', 10)


def test_test_mode_carries_boxes_for_pictures_only(nuscenes_tree: Path):
    sample = load(nuscenes_tree, test_mode=True).get_data_info(0)
    assert 'ann_info' not in sample
    assert len(sample['eval_ann_info']['gt_bboxes_3d']) > 0
    assert 'eval_ann_info' not in load(nuscenes_tree, test_mode=True, load_eval_anns=False).get_data_info(0)


def test_class_balanced_sampling_works(nuscenes_tree: Path):
    np.random.seed(0)
    classes = dict(classes=('car', 'bicycle', 'pedestrian'))
    dataset = load(nuscenes_tree, metainfo=classes)
    assert dataset.get_cat_ids(1) == {0, 1, 2}
    assert load(nuscenes_tree).get_cat_ids(1) == {0, 5, 7}
    assert load(nuscenes_tree, metainfo=dict(classes=('car',))).get_cat_ids(1) == {0}
    balanced = CBGSDataset(dataset)
    assert 0 < len(balanced) < 100
    assert balanced.get_data_info(0)['num_frames'] == 4


def test_balanced_sampling_is_seeded_and_leaves_absent_classes_out(nuscenes_tree: Path):
    dataset = load(nuscenes_tree)
    with pytest.raises(ZeroDivisionError):
        CBGSDataset(dataset)
    first = SeededCBGSDataset(dataset)
    np.random.seed(5)
    assert SeededCBGSDataset(dataset).sample_indices == first.sample_indices
    assert SeededCBGSDataset(dataset, seed=1).sample_indices != first.sample_indices
    # Cars and bicycles are in all 5 samples, pedestrians in 3: 13 pairs, 4 draws a class.
    assert len(first) == 12
    pedestrians = {index for index in range(5) if 7 in dataset.get_cat_ids(index)}
    assert len(pedestrians) == 3
    assert sum(index in pedestrians for index in first.sample_indices[8:]) == 4


def test_samples_and_scenes_without_boxes_are_kept(tmp_path: Path):
    root = HandmadeTree(tmp_path, scenes=('empty',), keyframes=2, annotated=False).write({'hand_train': ['empty']})
    create_infos(root, progress=False)
    dataset = load(root)
    assert len(dataset) == 2
    assert dataset[0]['ann_info']['gt_bboxes_3d'].tensor.shape == (0, 9)
    assert dataset.get_cat_ids(0) == set()
    with pytest.raises(InputError, match='no object to train on'):
        SeededCBGSDataset(dataset)


def test_unusable_info_files_get_one_line(nuscenes_tree: Path, tmp_path: Path):
    with pytest.raises(InputError, match='gone.pkl does not exist: run: python tools/create_data.py nuscenes --root'):
        load(nuscenes_tree, ann_file='gone.pkl')
    root = Path(shutil.copytree(nuscenes_tree, tmp_path / 'tree'))
    content = read_pickle(root / INFO)
    for info in content['data_list']:
        del info['history']
    bad = [
        (content, 'no history frames'),
        ([1, 2], 'is not an info file'),
        ({**content, 'data_list': []}, 'no samples'),
    ]
    bad.append(({**content, 'data_list': [[[1]]]}, 'no history frames'))
    for written, words in bad:
        (root / INFO).write_bytes(pickle.dumps(written))
        with pytest.raises(InputError, match=words):
            load(root)
    (root / INFO).write_bytes(b'\x80\x04 no pickle')
    with pytest.raises(InputError, match='not a readable pickle'):
        load(root)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(num_frames=6), 'has 1 to 4'),
        (dict(num_frames=0), 'has 1 to 4'),
        (dict(offsets_s=(-0.25,)), r'no history at \[-0.25\] s, only \[-0.5, -1.0, -1.5\]'),
        (dict(num_frames=2, offsets_s=(-0.5,)), 'not both'),
        (dict(cameras=('CAM_FRNT',)), "'CAM_FRNT': did you mean 'CAM_FRONT'"),
    ],
)
def test_selections_that_the_infos_cannot_give(nuscenes_tree: Path, options: dict, words: str):
    with pytest.raises(InputError, match=words):
        load(nuscenes_tree, **options)
