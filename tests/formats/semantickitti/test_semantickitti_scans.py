"""Several scans as one sample: registered by their poses, each with its own labels, only the current one scored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.datasets.transforms import GlobalRotScaleTrans, Pack3DDetInputs, RandomFlip3D
from mmdet3d.structures import PointData
from semantickitti_tree import write_tree

from perception3d.checks import InputError
from perception3d.datasets.point_label_dataset import POINT_META_KEYS
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.datasets.transforms.point_labels import LoadPointLabels
from perception3d.formats.semantickitti.dataset import SemanticKittiDataset
from perception3d.formats.semantickitti.evaluation.folders import EvaluationOptions, evaluate_folders
from perception3d.formats.semantickitti.evaluation.metric import SemanticKittiMetric
from perception3d.formats.semantickitti.files import MULTI_SCAN_CLASSES, label_encoding
from perception3d.formats.semantickitti.info import create_infos
from perception3d.formats.semantickitti.scans import GapLimits, LoadEarlierScans, earlier_scans_of

LOAD = [dict(type=LoadCheckedPoints), dict(type=LoadPointLabels), dict(type=LoadEarlierScans)]
PACK = dict(type=Pack3DDetInputs, keys=['points', 'pts_semantic_mask', 'pts_instance_mask'], meta_keys=POINT_META_KEYS)


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_tree(tmp_path_factory.mktemp('scans'), {'00': 2, '08': 4})
    create_infos(root, multi_scan=True, progress=False)
    return root


def build(root: Path, split: str = 'val', steps: tuple = (), **kwargs) -> SemanticKittiDataset:
    kwargs = {'earlier_scans': 2, 'metainfo': dict(classes=MULTI_SCAN_CLASSES), 'test_mode': True, **kwargs}
    # mmengine collects garbage for a second where it serializes.
    kwargs.setdefault('serialize_data', False)
    pipeline = [*LOAD, *steps, PACK]
    return SemanticKittiDataset(str(root), f'perception3d_infos_{split}.pkl', pipeline=pipeline, **kwargs)


def test_scans_meet_where_the_world_stands_still(tmp_path: Path):
    root = write_tree(tmp_path, {'08': 3})
    world = np.random.default_rng(0).uniform(-30, 30, (60, 3))
    camera_from_lidar = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])
    poses = np.loadtxt(root / 'sequences/08/poses.txt').reshape(-1, 3, 4)
    for scan, pose in enumerate(poses):
        seen = camera_from_lidar[:3, :3] @ world.T + camera_from_lidar[:3, 3:]
        seen = pose[:, :3].T @ (seen - pose[:, 3:])
        points = camera_from_lidar[:3, :3].T @ (seen - camera_from_lidar[:3, 3:])
        np.column_stack([points.T, np.full(60, scan / 10)]).astype('<f4').tofile(
            root / f'sequences/08/velodyne/{scan:06d}.bin'
        )
        np.full(60, 10 + scan, '<u4').tofile(root / f'sequences/08/labels/{scan:06d}.label')
        if scan == 1:
            # A metre ahead and a turn of 0.1 to the right: what was ahead is nearer, and to the left.
            assert points[0, 0] != world[0, 0] and points.T[:, 1].mean() > world[:, 1].mean()
    for scan in range(3):
        np.full(60, [10, 11, 15][scan], '<u4').tofile(root / f'sequences/08/labels/{scan:06d}.label')
    create_infos(root, multi_scan=True, progress=False)
    sample = build(root)[2]
    points = sample['inputs']['points'].numpy().reshape(3, 60, 5)
    np.testing.assert_allclose(points[1, :, :3], points[0, :, :3], atol=2e-5)
    np.testing.assert_allclose(points[2, :, :3], points[0, :, :3], atol=2e-5)
    # The current scan first, then the one before it.
    np.testing.assert_allclose(points[:, 0, 3], [0.2, 0.1, 0])
    np.testing.assert_allclose(points[:, :, 4], np.repeat([[0], [0.1], [0.2]], 60, axis=1), atol=1e-6)
    labels = sample['data_samples'].gt_pts_seg.pts_semantic_mask.reshape(3, 60)
    assert labels[:, 0].tolist() == [2, 1, 0] and (labels == labels[:, :1]).all()


def test_the_first_scans_have_fewer_and_sequences_stay_apart(tree: Path):
    data = build(tree, 'trainval')
    counts = [len(data.get_data_info(index)['earlier_scans']) for index in range(6)]
    assert counts == [0, 1, 0, 1, 2, 2]
    sample = data[5]
    assert sample['inputs']['points'].shape == (63 + 62 + 61, 5) and sample['data_samples'].num_scored_points == 63
    stored = [np.fromfile(tree / f'sequences/08/labels/{scan:06d}.label', '<u4') for scan in (3, 2, 1)]
    labels = label_encoding(MULTI_SCAN_CLASSES).labels(np.concatenate(stored), 'tree')
    assert sample['data_samples'].gt_pts_seg.pts_semantic_mask.tolist() == labels.tolist()
    assert sample['data_samples'].gt_pts_seg.pts_instance_mask.max() > 1 << 16


def test_only_the_current_scan_is_scored_and_written(tree: Path, tmp_path: Path):
    data = build(tree)
    metric = SemanticKittiMetric(format_dir=str(tmp_path))
    metric.dataset_meta = data.metainfo
    for packed in data:
        sample = packed['data_samples']
        labels = torch.from_numpy(sample.eval_ann_info['pts_semantic_mask']).clone()
        # Wrong on every earlier point.
        labels[sample.num_scored_points :] = 0
        sample.pred_pts_seg = PointData(pts_semantic_mask=labels)
        metric.process({}, [sample.to_dict()])
    logged = metric.evaluate(4)
    assert logged['semantickitti/accuracy'] == pytest.approx(1)
    scored, _ = evaluate_folders(tree, tmp_path, EvaluationOptions(multi_scan=True), progress=False)
    assert scored['miou'] == logged['semantickitti/miou'] and scored['accuracy'] == logged['semantickitti/accuracy']
    assert (tmp_path / 'sequences/08/predictions/000003.label').stat().st_size == 4 * 63
    assert data.write_result(sample, tmp_path / 'own.label') and (tmp_path / 'own.label').stat().st_size == 4 * 63


def test_augmentation_moves_all_scans_together(tree: Path):
    steps = (
        dict(type=RandomFlip3D, sync_2d=False, flip_ratio_bev_horizontal=1.0, flip_ratio_bev_vertical=0.0),
        dict(type=GlobalRotScaleTrans, rot_range=[0.5, 0.5], scale_ratio_range=[2, 2]),
    )
    plain = build(tree)[3]['inputs']['points'].double()
    moved = build(tree, steps=steps, test_mode=False)[3]['inputs']['points'].double()
    torch.testing.assert_close(torch.pdist(moved[:, :3]), 2 * torch.pdist(plain[:, :3]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moved[:, 3:], plain[:, 3:])


def test_a_raw_file_brings_the_scans_before_it(tree: Path, tmp_path: Path):
    data = build(tree, lazy_init=True)
    cloud = tree / 'sequences/08/velodyne/000003.bin'
    (sample,) = data.sample_from_file(cloud)
    stored = build(tree).get_data_info(3)['earlier_scans']
    for found, expected in zip(sample['earlier_scans'], stored):
        assert found['lidar_path'] == expected['lidar_path'] and found['age_s'] == pytest.approx(expected['age_s'])
        np.testing.assert_allclose(found['lidar_from_earlier'], expected['lidar_from_earlier'])
    assert data.pipeline(sample)['inputs']['points'].shape == (63 + 62 + 61, 5)
    # Alone: one scan of age 0.
    shutil.copy(cloud, tmp_path / 'own.bin')
    (sample,) = data.sample_from_file(tmp_path / 'own.bin')
    assert data.pipeline(sample)['inputs']['points'].shape == (63, 5)


def test_scans_behind_a_gap_are_left_out(simulated_semantickitti: Path):
    """Each scene of the built-in world has two scans in sequence 08, and is a kilometre and a minute from the next."""
    data = build(simulated_semantickitti, earlier_scans=3)
    scans = [data.get_data_info(index)['earlier_scans'] for index in range(8)]
    assert [len(each) for each in scans] == [0, 1] * 4
    assert all(np.linalg.norm(each['lidar_from_earlier'][:3, 3]) < 5 for found in scans for each in found)
    for index in (6, 7):
        (sample,) = data.sample_from_file(simulated_semantickitti / f'sequences/08/velodyne/{index:06d}.bin')
        assert [each['lidar_path'] for each in sample['earlier_scans']] == [each['lidar_path'] for each in scans[index]]
    # Either limit alone is enough, and both can be raised.
    for limits, counts in (({'max_gap_s': 100}, [0, 1]), ({'max_gap_m': 1e6}, [0, 1]), ({'max_gap_s': 0.05}, [0, 0])):
        data = build(simulated_semantickitti, earlier_scans=3, **limits)
        assert [len(data.get_data_info(index)['earlier_scans']) for index in range(8)] == counts * 4
    data = build(simulated_semantickitti, earlier_scans=3, max_gap_s=100, max_gap_m=1e6)
    assert [len(data.get_data_info(index)['earlier_scans']) for index in range(8)] == [0, 1, 2, 3, 3, 3, 3, 3]


def test_without_times_numbers_of_scans_tell_a_gap():
    poses = [np.eye(4)] * 16
    scans = [{'frame_id': f'08_{k:06d}', 'lidar_path': '', 'global_from_lidar': poses[k]} for k in range(16)]
    # More than ten scans are one drive; with a gap of eleven the chain ends.
    assert len(earlier_scans_of(scans[15], scans[14::-1], GapLimits())) == 15
    found = earlier_scans_of(scans[15], [scans[14], scans[13], scans[2], scans[1]], GapLimits())
    assert [each['age_s'] for each in found] == pytest.approx([0.1, 0.2])


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def replace(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (remove('poses.txt'), r'08/poses\.txt does not exist'),
        (remove('calib.txt'), r'08/calib\.txt does not exist'),
        (replace('calib.txt', 'P0: 1 2\n'), r'calib\.txt has no line Tr'),
        (replace('calib.txt', 'Tr: 1 2\n'), r'calib\.txt, line 1: expected 12 finite numbers'),
        (
            replace('poses.txt', '1 0 0 0 0 1 0 0 0 0 1 0\n'),
            r'poses\.txt has 1 lines: expected one for each of 2 scans',
        ),
        (replace('poses.txt', '1 0 0 0 0 1 0 0 0 0 1 0\n1 nan\n'), r'poses\.txt, line 2: expected 12 finite numbers'),
        (replace('times.txt', '0\nsoon\n'), r"times\.txt, line 2: expected 1 finite numbers, got 'soon'"),
    ],
)
def test_bad_poses_are_named(tmp_path: Path, spoil: Callable[[Path], None], message: str):
    root = write_tree(tmp_path, {'08': 2})
    spoil(root / 'sequences' / '08')
    with pytest.raises(InputError, match=message):
        create_infos(root, multi_scan=True, progress=False)


def test_missing_poses_are_named_where_they_are_needed(tmp_path: Path):
    root = write_tree(tmp_path, {'08': 2}, poses=False)
    summary = create_infos(root, progress=False)['splits']
    assert summary['val']['notes'] == ['no poses of sequences 08 (calib.txt, poses.txt) for several scans']
    with pytest.raises(InputError, match=r'infos_val\.pkl: scan 08_000000 has no pose, which earlier_scans needs'):
        build(root)
    with pytest.raises(InputError, match='LoadEarlierScans needs earlier_scans=N'):
        build(root, earlier_scans=0)[0]
    with pytest.raises(InputError, match='earlier_scans is -1'):
        build(root, earlier_scans=-1)
