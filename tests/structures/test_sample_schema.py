"""Samples of all data sets have the keys of the schema; mmdet3d's names stay where its layout is read or written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kitti_tree import KittiTree

from perception3d.checks import InputError
from perception3d.datasets.transforms.camera_augment import BEVAugment, ImageAugment
from perception3d.datasets.transforms.camera_loading import LoadMultiViewHistory
from perception3d.datasets.transforms.camera_packing import PackCameraInputs
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.formats.kitti.dataset import FRAME_META_KEYS, KittiFrameDataset
from perception3d.formats.kitti.info import create_infos
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.structures.sample_schema import (
    CAMERA_KEYS,
    FRAME_KEYS,
    LIDAR_KEYS,
    RENAMED,
    camera_keys,
    from_mmdet3d,
    stored_from_lidar,
)

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = {**CAMERA_KEYS, **LIDAR_KEYS, **FRAME_KEYS}
# What mmdet3d's own code reads or writes in a sample, and entries of the info file that its base class leaves there.
OTHERS = {
    'box_type_3d', 'box_mode_3d', 'lidar_points', 'lidar_sweeps', 'images', 'ann_info', 'eval_ann_info', 'flip',
    'transformation_3d_flow', 'plane', 'labelled',
}  # fmt: skip
# Where mmdet3d's layout of cameras and poses is written or read: info files, JSON frames, this package's own reader.
BORDER = (
    'structures/sample_schema.py', 'datasets/camera_frames.py', 'datasets/missing_cameras.py',
    'datasets/lane_building.py', 'datasets/lane_dataset.py', 'formats/llamas/info.py', 'formats/kitti/info.py',
    'formats/kitti/dataset.py', 'formats/nuscenes/info/', 'formats/nuscenes/dataset.py',
    'formats/nuscenes/evaluation/metric.py', 'formats/stcrowd/info.py', 'models/blocks/camera.py',
)  # fmt: skip


def require_schema(sample: dict[str, Any], images: int) -> None:
    """Every key is known, and has the shape of the schema."""
    unknown = {key for key in sample if key not in SCHEMA and key not in OTHERS and not key.startswith('pcd_')}
    assert not unknown
    sizes = {'I': images, 'N': images // sample.get('num_frames', 1)}
    for key in sample.keys() & SCHEMA.keys():
        expected = tuple(sizes.get(size) or int(size) for size in SCHEMA[key].shape.split())
        assert np.shape(sample[key]) == expected, key


def test_samples_of_nuscenes_before_and_after_the_pipeline(nuscenes_tree: Path):
    steps = [LoadMultiViewHistory(), ImageAugment((24, 40)), BEVAugment(), PackCameraInputs()]
    dataset = MultiFrameNuScenesDataset(str(nuscenes_tree), 'perception3d_infos_hand_train.pkl', pipeline=steps)
    stored, packed = dataset.get_data_info(4), dataset[4]['data_samples'].metainfo
    images = len(stored['img_paths'])
    assert images == 16
    require_schema(stored, images)
    require_schema(packed, images)
    lacking = {'frame_id', 'only_ahead', 'without_camera', 'previous_age_s', 'previous_lidar_path'}
    assert SCHEMA.keys() - packed.keys() == lacking
    parts = [packed[key] for key in ('img_from_stored', 'stored_from_cam', 'cam_from_lidar')]
    np.testing.assert_array_equal(packed['img_from_lidar'], parts[0] @ parts[1] @ parts[2])
    assert packed['img_hw'] == (24, 40) and packed['stored_hw'] == stored['stored_hw']


def test_samples_of_kitti_with_and_without_a_camera(tmp_path: Path):
    tree = KittiTree(tmp_path)
    tree.write({'train': ['000000'], 'val': ['000001']})
    create_infos(tree.root, progress=False)
    steps = [LoadCheckedPoints()]
    dataset = KittiFrameDataset(str(tree.root), 'perception3d_infos_train.pkl', test_mode=True, pipeline=steps)
    sample = dataset.get_data_info(0)
    require_schema(sample, 1)
    assert sample.keys() & SCHEMA.keys() <= set(FRAME_META_KEYS)
    (of_file,) = dataset.sample_from_file(sample['lidar_path'])
    require_schema(of_file, 1)
    for key in ('stored_from_cam', 'cam_from_lidar', 'img_from_lidar', 'stored_hw', 'img_paths', 'cam_names'):
        np.testing.assert_array_equal(of_file[key], sample[key], err_msg=key)


def test_cameras_of_mmdet3d_are_read_in_both_its_ways():
    rng = np.random.default_rng(0)
    cam2img, lidar2cam = rng.normal(size=(3, 3)), rng.normal(size=(4, 4))
    full = np.eye(4)
    full[:3, :3] = cam2img
    view = {'cam2img': cam2img, 'lidar2cam': lidar2cam, 'height': 3, 'width': 5}
    one = from_mmdet3d({**view, 'img_path': 'a/image_2/7.png', 'token': '7'})
    assert (one['token'], one['cam_names'], one['img_paths'], one['stored_hw']) == (
        '7', ['image_2'], ['a/image_2/7.png'], [(3, 5)],
    )  # fmt: skip
    assert one['only_ahead']
    np.testing.assert_array_equal(stored_from_lidar(one), (full @ lidar2cam)[None])
    # mmdet3d mirrors y of the points and leaves the matrices; pixels of a mirrored point are those of the stored one.
    mirrored = stored_from_lidar({**one, 'transformation_3d_flow': ['HF']})
    np.testing.assert_allclose(mirrored[0] @ [4, -3, 2, 1], full @ lidar2cam @ [4, 3, 2, 1])
    many = from_mmdet3d({'images': {'L': {**view, 'img_path': 'l.png'}, 'R': {**view, 'img_path': ''}}})
    assert many['cam_names'] == ['L'] and many['img_paths'] == ['l.png'] and 'only_ahead' not in many
    assert from_mmdet3d(many) is many
    assert from_mmdet3d({'token': 'x'}) == {'token': 'x'}


def test_cameras_of_several_frames_are_in_order_of_frames():
    def view(name: str, shift: float) -> dict[str, Any]:
        return {'img_path': name, 'cam2img': np.eye(3), 'lidar2cam': np.eye(4) + shift, 'height': 2, 'width': 4}

    past = view('', 2)
    del past['height']
    keys = camera_keys({'A': [view('a0', 0), past], 'B': [view('b0', 1), view('b1', 3)]}, 'data')
    assert keys['img_paths'] == ['data/a0', 'data/b0', '', 'data/b1']
    assert keys['stored_hw'] == [(2, 4)] * 4
    np.testing.assert_array_equal(keys['cam_from_lidar'][:, 0, 3], [0, 1, 2, 3])


def test_an_earlier_name_is_an_error_that_names_the_key():
    with pytest.raises(InputError, match="'img_shape' is now 'img_hw'"):
        PackCameraInputs(keys=(), meta_keys=('token', 'img_shape')).transform({'token': 'a', 'img_hw': (1, 2)})
    # A step of one's own that writes it for a detector of mmdet3d.
    packed = PackCameraInputs(keys=(), meta_keys=('img_shape',)).transform({'img_shape': (1, 2)})
    assert packed['data_samples'].metainfo == {'img_shape': (1, 2)}


def test_the_changelog_lists_the_renamed_keys():
    rows = re.findall(r'^\| `(\w+)`[^|]* \| `(\w+)`[^|]* \|$', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert dict(rows) == RENAMED


def test_names_of_mmdet3d_stay_at_the_border():
    words = re.compile(r'\b(lidar2cam|cam2img|lidar2img|lidar2ego|ego2global|img_path|img_shape|ori_shape)\b')
    package = ROOT / 'perception3d'
    found = {path.relative_to(package).as_posix() for path in package.rglob('*.py') if words.search(path.read_text())}
    assert [name for name in sorted(found) if not name.startswith(BORDER)] == []
    # Each of them has some, so that the list does not outlive its reason.
    assert [border for border in BORDER if not any(name.startswith(border) for name in found)] == []
