"""Groups that are pasted: their people keep distances and points, meet nobody, and stand in nobody's line of sight."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kitti_tree import points_in
from mmdet3d.structures import LiDARInstance3DBoxes
from mmdet3d.structures.points import LiDARPoints

from perception3d.checks import InputError
from perception3d.datasets.ground_truth_database import new_database, write_database_info, write_objects_of_frame
from perception3d.datasets.transforms.group_pasting import GroupSampler, in_line
from perception3d.datasets.transforms.lidar_augment import PasteObjects

PLACES = {'a': [(6, 1), (6.6, 1), (6.6, 1.7), (12, -3)], 'b': [(9, 4), (9.5, 4.2)]}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A database of two frames: a group of three and a person apart, and a pair; 20 points each."""
    folder = tmp_path_factory.mktemp('groups')
    rng, entries = np.random.default_rng(0), []
    with new_database(folder) as database:
        for frame, places in PLACES.items():
            boxes = np.array([[x, y, -1.6, 0.5, 0.5, 1.7, 0.1, 1.0, 0.0] for x, y in places])
            clouds = [np.column_stack([points_in(box[:7], 20, rng), np.ones(20)]) for box in boxes]
            rows = np.arange(20 * len(boxes)).reshape(len(boxes), 20)
            points = np.concatenate(clouds).astype(np.float32)
            names = ['person'] * len(boxes)
            entries += write_objects_of_frame(database, frame, points, boxes, rows, names, [0] * len(boxes))
    write_database_info(folder, entries)
    return folder


def frame_of(boxes):
    boxes = np.array(boxes, np.float32).reshape(-1, 9)
    ground = np.column_stack([np.random.default_rng(1).uniform(-20, 20, (500, 2)), np.full(500, -1.0), np.zeros(500)])
    return dict(
        points=LiDARPoints(torch.from_numpy(ground.astype(np.float32)), points_dim=4),
        gt_bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9),
        gt_labels_3d=np.where(np.arange(len(boxes)) == 0, -1, 0),
    )


def test_groups_keep_their_distances_and_meet_nobody(root):
    step = PasteObjects(
        dict(type=GroupSampler, data_root=str(root), classes=['person'], sample_groups=dict(person=3), made_by='x')
    )
    there = [[8, 2, -1.6, 0.5, 0.5, 1.7, 0, 0, 0], [5, -3, -1.6, 0.5, 0.5, 1.7, 0, 0, 0]]
    known = [(frame, p, q) for frame, places in PLACES.items() for p in places for q in places if p != q]
    distances = np.array([math.dist(p, q) for _, p, q in known])
    np.random.seed(0)
    pasted, pairs = 0, 0
    for _ in range(30):
        results = step.transform(frame_of(there))
        boxes = results['gt_bboxes_3d'].tensor.numpy()
        added = boxes[2:]
        pasted += len(added)
        assert results['gt_labels_3d'].tolist() == [-1, 0] + [0] * len(added) and (added[:, 0] >= 0).all()
        # Each keeps its distance from the LiDAR, its heading to it and its points.
        ranges = [np.hypot(*p) for places in PLACES.values() for p in places]
        points = results['points'].tensor.numpy()
        assert not in_line(added, boxes[:2]).any()
        for box in added:
            assert min(abs(np.hypot(*box[:2]) - np.array(ranges))) < 1e-4
            heading = box[6] - np.arctan2(box[8], box[7])
            assert (heading - 0.1 + np.pi) % (2 * np.pi) - np.pi == pytest.approx(0, abs=1e-4)
            inside = (np.hypot(*(points[:, :2] - box[:2]).T) < 0.36) & (points[:, 3] == 1)
            assert inside.sum() >= 20
        for i in range(len(added)):
            for j in range(i):
                gap = math.dist(added[i, :2], added[j, :2])
                pairs += abs(distances - gap).min() < 1e-4 and gap < 1.5
    assert pasted > 60 and pairs > 20


def test_a_frame_without_a_free_place_stays_as_it_is(root):
    ring = [[3 * math.cos(t), 3 * math.sin(t), -1.6, 1, 1, 1.7, 0, 0, 0] for t in np.linspace(-1.7, 1.7, 30)]
    sampler = GroupSampler(str(root), ['person'], dict(person=3))
    assert sampler.sample_all(np.array(ring), np.zeros(30)) is None
    assert len(sampler.sample_all(np.zeros((0, 9)), np.zeros(0))['gt_bboxes_3d']) >= 1


def test_what_hides_what():
    boxes = np.array([[10.0, 0, 0, 0.6, 0.8, 1, 0], [0, 5, 0, 0.6, 0.8, 1, 0], [-5, 0.1, 0, 0.6, 0.8, 1, 0]])
    others = np.array([[4.0, 0.3, 0, 0.6, 0.8, 1, 0], [4, 1.5, 0, 0.6, 0.8, 1, 0], [-9, -0.1, 0, 0.6, 0.8, 1, 0]])
    assert in_line(boxes, others).tolist() == [[True, False, False], [False, False, False], [False, False, True]]


def test_settings_that_do_not_fit_are_named(root):
    with pytest.raises(InputError, match='most 0'):
        GroupSampler(str(root), ['person'], dict(person=1), most=0)
    with pytest.raises(InputError, match='use_ground_plane=False'):
        GroupSampler(str(root), ['person'], dict(person=1)).sample_all(np.zeros((0, 9)), [], None, np.zeros(4))
