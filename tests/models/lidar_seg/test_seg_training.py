"""Networks on cubes, mixed scans and several scans train on a crop of the real SemanticKITTI scan: the loss falls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.datasets.transforms import Pack3DDetInputs
from mmengine.dataset import pseudo_collate

from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.datasets.transforms.point_labels import LoadPointLabels
from perception3d.datasets.transforms.point_mix import LaserMixScans, PasteInstances, PolarMixScans
from perception3d.datasets.transforms.point_views import SampleVoxels
from perception3d.formats.semantickitti.dataset import SemanticKittiDataset
from perception3d.formats.semantickitti.files import CLASSES, MULTI_SCAN_CLASSES
from perception3d.formats.semantickitti.info import create_infos
from perception3d.formats.semantickitti.scans import LoadEarlierScans
from perception3d.models.lidar_seg.losses import LovaszSoftmax, WeightedCrossEntropy
from perception3d.models.lidar_seg.mink_unet import MinkUNet
from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor
from perception3d.models.lidar_seg.segmentor import PointSegmentor
from perception3d.models.lidar_seg.spvcnn import SPVCNN
from perception3d.models.lidar_seg.voxels import CubePartition

THINGS = ('car', 'person')
LOAD = [LoadCheckedPoints(), LoadPointLabels()]
MIXES = {
    'laser': [LaserMixScans(LOAD)],
    'polar': [PolarMixScans(LOAD, THINGS)],
    'paste': [PasteInstances(LOAD, THINGS, ['road', 'sidewalk', 'parking', 'terrain'], min_points=5)],
}
SMALL = dict(voxel_size_m=0.5, low=(-27, -27, -4), high=(27, 27, 4))


@pytest.fixture(scope='module')
def root(samples_of, tmp_path_factory) -> Path:
    """Three scans: some points of the real one within 25 m, most of its objects, from places 0.5 m apart."""
    source = samples_of('semantickitti') / 'sequences' / '00'
    points = np.fromfile(source / 'velodyne' / '000000.bin', '<f4').reshape(-1, 4)
    labels = np.fromfile(source / 'labels' / '000000.label', '<u4')
    near = np.linalg.norm(points[:, :2], axis=1) < 25
    objects, rest = np.flatnonzero(near & (labels >> 16 > 0)), np.flatnonzero(near & (labels >> 16 == 0))
    root = tmp_path_factory.mktemp('semantickitti')
    folder = root / 'sequences' / '00'
    for part in ('velodyne', 'labels'):
        (folder / part).mkdir(parents=True)
    for scan in range(3):
        rows = np.concatenate([objects[scan::6], rest[scan::160]])
        moved = points[rows] - np.array([0.5 * scan, 0, 0, 0], np.float32)
        moved.tofile(folder / 'velodyne' / f'{scan:06d}.bin')
        labels[rows].tofile(folder / 'labels' / f'{scan:06d}.label')
    (folder / 'calib.txt').write_text('Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n')
    (folder / 'poses.txt').write_text(''.join(f'1 0 0 {0.5 * scan} 0 1 0 0 0 0 1 0\n' for scan in range(3)))
    create_infos(root, jobs=1, progress=False)
    return root


def _dataset(root, steps, classes=CLASSES, **settings):
    keys = ['points', 'pts_semantic_mask', 'pts_instance_mask']
    pack = Pack3DDetInputs(keys=keys, meta_keys=('lidar_path', 'num_scored_points'))
    return SemanticKittiDataset(
        data_root=str(root), ann_file='perception3d_infos_train.pkl', metainfo=dict(classes=classes),
        pipeline=[*LOAD, *steps, pack], **settings,
    )  # fmt: skip


def _trained(kind, dataset, columns=(3,), steps=6):
    """Losses of steps of a small network on the last scan of a data set."""
    torch.manual_seed(0)
    np.random.seed(0)
    partition = dict(type=CubePartition, columns=columns, **SMALL)
    net = dict(type=kind, num_classes=len(dataset.metainfo['classes']), in_channels=3 + len(columns))
    model = PointSegmentor(
        net=net | dict(channel_ratio=0.125),
        losses=dict(
            ce=dict(of='point', type=WeightedCrossEntropy), lovasz=dict(of='voxel', type=LovaszSoftmax, weight=0.2)
        ),
        predict_from='point', data_preprocessor=dict(type=PointSegPreprocessor, partition=partition),
    ).train()  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(steps):
        batch = pseudo_collate([dataset[2]])
        total, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    return losses


@pytest.mark.parametrize('kind', [MinkUNet, SPVCNN])
def test_networks_on_cubes_train_on_the_real_scan(root, kind):
    losses = _trained(kind, _dataset(root, [SampleVoxels(300, 0.5)]))
    assert np.mean(losses[-2:]) < 0.75 * losses[0], losses


@pytest.mark.parametrize('name', MIXES)
def test_mixed_scans_train(root, name):
    dataset = _dataset(root, MIXES[name])
    plain = _dataset(root, [])
    assert any(len(dataset[0]['inputs']['points']) != len(plain[0]['inputs']['points']) for _ in range(3))
    losses = _trained(MinkUNet, dataset)
    assert np.mean(losses[-2:]) < 0.75 * losses[0], losses


def test_several_scans_train_with_their_ages(root):
    dataset = _dataset(root, [LoadEarlierScans()], MULTI_SCAN_CLASSES, earlier_scans=2)
    sample = dataset[2]
    assert sample['inputs']['points'].shape[1] == 5
    assert sample['data_samples'].metainfo['num_scored_points'] < len(sample['inputs']['points']) / 2
    losses = _trained(MinkUNet, dataset, columns=(3, 4))
    assert np.mean(losses[-2:]) < 0.75 * losses[0], losses
