"""Mixing of labelled scans: points, classes and objects stay together, other scans are drawn, mistakes have a name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet3d.structures.points import LiDARPoints
from mmengine.dataset import Compose
from semantickitti_tree import write_tree

from perception3d.checks import InputError
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.datasets.transforms.point_labels import LoadPointLabels
from perception3d.datasets.transforms.point_mix import LaserMixScans, PasteInstances, PolarMixScans
from perception3d.datasets.transforms.point_views import SampleVoxels
from perception3d.formats.semantickitti.dataset import SemanticKittiDataset
from perception3d.formats.semantickitti.info import create_infos

CLASSES = ('road', 'car', 'person')
ROAD, CAR, PERSON = range(3)


class _Scans:
    """Scan k is a disc of road at the height -1.7 - 0.1 k with a person and a car, and the number k as remission."""

    metainfo = {'classes': CLASSES}

    def __len__(self):
        return 3

    def get_data_info(self, index):
        return {'number': index}


def _load(sample):
    number = sample['number']
    rng = np.random.default_rng(number)
    radius, azimuth = np.sqrt(rng.uniform(4, 400, 3000)), rng.uniform(-np.pi, np.pi, 3000)
    road = np.column_stack([radius * np.cos(azimuth), radius * np.sin(azimuth), np.full(3000, -1.7 - 0.1 * number)])
    person = rng.uniform(-0.2, 0.2, (60, 3)) + [6 + number, 1, -0.5]
    car = rng.uniform(-1, 1, (200, 3)) * [2, 1, 0.5] + [-8, 4 + number, -1]
    xyz = np.concatenate([road, person, car])
    table = np.column_stack([xyz, np.full(len(xyz), number), np.full(len(xyz), 0.5)]).astype(np.float32)
    labels = np.repeat([ROAD, PERSON, CAR], [3000, 60, 200])
    objects = np.where(labels == ROAD, 0, labels)
    return {**sample, 'points': LiDARPoints(table, points_dim=5), 'pts_semantic_mask': labels,
            'pts_instance_mask': objects, 'num_scored_points': 3000}  # fmt: skip


def _mixed(step, seed, number=0):
    np.random.seed(seed)
    scans = _Scans()
    return step({**_load(scans.get_data_info(number)), 'dataset': scans})


def _with_another(step):
    """The table of a mixture in which the drawn scan is not the first one too."""
    tables = (_mixed(step, seed)['points'].tensor for seed in range(20))
    return next(table for table in tables if len(table[:, 3].unique()) > 1)


STEPS = {
    'laser': lambda **settings: LaserMixScans([_load], **settings),
    'polar': lambda **settings: PolarMixScans([_load], ['person'], swap_ratio=1.0, **settings),
    'paste': lambda **settings: PasteInstances([_load], ['person'], ['road'], **settings),
}


@pytest.mark.parametrize('name', STEPS)
def test_a_point_keeps_its_class_and_objects_stay_apart(name):
    mixed = 0
    for seed in range(6):
        results = _mixed(STEPS[name](), seed)
        table, labels, objects = results['points'].tensor, results['pts_semantic_mask'], results['pts_instance_mask']
        assert len(table) == len(labels) == len(objects) and table.shape[1] == 5 and (table[:, 4] == 0.5).all()
        assert labels.dtype == objects.dtype == np.int64 and 'num_scored_points' not in results
        assert ((objects == 0) == (labels == ROAD)).all()
        # An object is of one class and of one scan; the numbers of two scans were equal.
        for number in np.unique(objects[objects > 0]):
            rows = objects == number
            assert len(np.unique(labels[rows])) == 1 and len(table[rows, 3].unique()) == 1
        # The height of the road, and that of people over it, tell scan and class of a point.
        road = table[labels == ROAD]
        np.testing.assert_allclose(road[:, 2], -1.7 - 0.1 * road[:, 3], atol=1e-5)
        mixed += len(table[:, 3].unique()) > 1
        again = _mixed(STEPS[name](), seed)
        assert torch.equal(again['points'].tensor, table) and np.array_equal(again['pts_instance_mask'], objects)
    assert mixed >= 3
    results = _mixed(STEPS[name](prob=0.0), 0)
    assert len(results['points']) == 3260 and results['num_scored_points'] == 3000


def test_lasermix_takes_areas_of_inclination_in_turns():
    table = _with_another(LaserMixScans([_load], num_areas=[2], pitch_angles=[-40, 0]))
    pitch = torch.atan2(table[:, 2], table[:, :2].norm(dim=1)).rad2deg()
    other = table[:, 3] != 0
    assert other.any() and (pitch[other] <= -20 + 1e-3).all() and (pitch[~other] > -20 - 1e-3).all()


def test_polarmix_swaps_a_half_plane_and_copies_objects_three_times():
    results = _mixed(PolarMixScans([_load], ['person'], swap_ratio=0.0), 3, number=1)
    people = results['pts_semantic_mask'] == PERSON
    assert people.sum() == 60 + 3 * 60 and len(np.unique(results['pts_instance_mask'][people])) == 4
    table = _with_another(PolarMixScans([_load], ['person'], swap_ratio=1.0, rotate_paste_ratio=0.0))
    azimuth = -torch.atan2(table[:, 1], table[:, 0])
    other = table[:, 3] != 0
    # All points of the other scan lie within pi of each other on a circle that begins between -pi and 0.
    assert other.any() and azimuth[other].max() - azimuth[other].min() <= np.pi
    assert not ((azimuth[~other] > azimuth[other].min()) & (azimuth[~other] < azimuth[other].max())).any()


def test_pasted_objects_stand_on_free_ground_at_their_distance():
    pasted = 0
    for seed in range(5):
        results = _mixed(STEPS['paste'](num_scans=3, max_objects=4), seed)
        table, objects = results['points'].tensor, results['pts_instance_mask']
        assert torch.equal(table[:3260], _load({'number': 0})['points'].tensor)
        for number in np.unique(objects[3260:]):
            person = table[objects == number]
            source = _load({'number': int(person[0, 3])})
            original = source['points'].tensor[source['pts_semantic_mask'] == PERSON]
            torch.testing.assert_close(person[:, :2].norm(dim=1), original[:, :2].norm(dim=1), atol=1e-4, rtol=0)
            # As high over the road of this scan, at -1.7, as over its own.
            lift = person[:, 2] - original[:, 2]
            torch.testing.assert_close(lift, torch.full_like(lift, 0.1 * float(person[0, 3])), atol=1e-4, rtol=0)
            others = table[(objects != number) & (objects > 0)]
            assert torch.cdist(person[:, :2], others[:, :2]).min() > 0.0
            center = (person[:, :2].amax(0) + person[:, :2].amin(0)) / 2
            assert ((others[:, :2] - center).norm(dim=1) > 0.19).all()
            pasted += 1
    assert pasted >= 10
    # Nowhere is ground: nothing is pasted.
    assert len(_mixed(PasteInstances([_load], ['person'], ['car']), 0)['points']) == 3260


def test_mistakes_of_mixing_have_a_name():
    step = LaserMixScans([_load])
    with pytest.raises(InputError, match='LaserMixScans draws other scans'):
        step(_load({'number': 0}))
    with pytest.raises(InputError, match='bicycle'):
        _mixed(PolarMixScans([_load], ['bicycle']), 0)
    with pytest.raises(InputError, match='rotate_paste_ratio=0'):
        PolarMixScans([_load], [])

    def without(sample):
        return {key: value for key, value in _load(sample).items() if key != 'pts_instance_mask'}

    with pytest.raises(InputError, match='needs objects'):
        _mixed(PasteInstances([without], ['person'], ['road']), 0)
    for step in (LaserMixScans, lambda load: PasteInstances(load, ['person'], ['road'])):
        with pytest.raises(InputError, match='loads scans with 4 columns, but those to mix them with have 5'):
            _mixed(step([lambda sample: {**_load(sample), 'points': _load(sample)['points'][:, :4]}]), 0)
    assert 'pts_instance_mask' in _mixed(PolarMixScans([without], ['person']), 0)


def test_voxels_of_a_training_are_limited_and_whole():
    np.random.seed(0)
    sample = _load({'number': 0})

    def cells(points):
        return {tuple(row) for row in np.round(points.tensor[:, :3].numpy() / 1.5).astype(int)}

    before = sample['points']
    results = SampleVoxels(100, voxel_size_m=1.5)(dict(sample))
    kept = cells(results['points'])
    assert len(kept) == 100 and len(cells(before)) > 200
    expected = [tuple(row) in kept for row in np.round(before.tensor[:, :3].numpy() / 1.5).astype(int)]
    assert torch.equal(results['points'].tensor, before.tensor[expected])
    assert np.array_equal(results['pts_semantic_mask'], sample['pts_semantic_mask'][expected])
    assert len(SampleVoxels(100_000)(dict(sample))['points']) == 3260


def test_a_training_pipeline_of_the_data_set_mixes_scans(tmp_path):
    write_tree(tmp_path, {'00': 3})
    create_infos(tmp_path, jobs=1, progress=False)
    load = [LoadCheckedPoints(), LoadPointLabels()]
    settings = dict(data_root=str(tmp_path), ann_file='perception3d_infos_train.pkl')
    dataset = SemanticKittiDataset(
        **settings,
        pipeline=[*load, LaserMixScans(load), PolarMixScans(load, ['car', 'person']), PasteInstances(
            load, ['car'], ['road'], min_points=1)],
    )  # fmt: skip
    np.random.seed(0)
    plain = Compose(load)(dataset.get_data_info(0))
    sample = dataset[0]
    assert len(sample['points']) == len(sample['pts_semantic_mask']) == len(sample['pts_instance_mask'])
    assert len(sample['points']) != len(plain['points'])
    # Not in testing, where the sample would be copied with all of the data set.
    assert 'dataset' not in SemanticKittiDataset(**settings, pipeline=load, test_mode=True)[0]
