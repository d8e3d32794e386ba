"""What models of two frames and of cloud and camera load from a tree of STCrowd."""

from __future__ import annotations

import numpy as np
import pytest
from stcrowd_tree import CAMERA, write_tree

from perception3d.datasets.previous_clouds import link_previous
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints, LoadPreviousCloud
from perception3d.datasets.transforms.point_painting import AddImagePixels
from perception3d.formats.stcrowd.dataset import STCrowdDataset
from perception3d.formats.stcrowd.info import create_infos

_STEPS = [dict(type=LoadCheckedPoints), dict(type=LoadPreviousCloud), dict(type=AddImagePixels, final_hw=(9, 16))]


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    root = write_tree(tmp_path_factory.mktemp('inputs'))
    (root / 'left' / '12' / '12_1.jpg').unlink()
    create_infos(root, 1, progress=False)
    return STCrowdDataset(str(root), 'perception3d_infos_train.pkl', pipeline=_STEPS, test_mode=True)


def test_every_frame_has_the_points_of_the_one_before(dataset):
    frames = [dataset[k] for k in range(len(dataset))]
    assert [frame['scene_token'] for frame in frames] == ['3'] * 3 + ['12'] * 3
    for k, frame in enumerate(frames):
        points = frame['points'].tensor.numpy()
        ages = points[:, 4]
        if k % 3 == 0:
            assert 'previous_lidar_path' not in frame and not ages.any()
            continue
        assert np.allclose(np.unique(ages), [0.0, 0.4], atol=1e-5) and frame['previous_age_s'] == pytest.approx(0.4)
        before = frames[k - 1]['points'].tensor.numpy()
        assert np.array_equal(points[ages > 0, :4], before[before[:, 4] == 0, :4])


def test_a_point_has_its_pixel_in_the_image(dataset):
    frame = dataset[0]
    points = frame['points'].tensor.numpy().astype(np.float64)
    # The tree has images of 32 x 18 pixels, far less than the matrices are for: few points are in them.
    matrix = np.diag([0.5, 0.5, 1, 1]) @ CAMERA.img_from_cam @ CAMERA.cam_from_lidar
    u, v, depth = (matrix @ np.column_stack([points[:, :3], np.ones(len(points))]).T)[:3]
    seen = (depth > 0) & (u >= 0) & (u < 16 * depth) & (v >= 0) & (v < 9 * depth)
    assert np.array_equal(points[:, -1] == 1, seen) and not points[~seen, -3:].any()
    np.testing.assert_allclose(points[seen, -3:-1], np.column_stack([u, v])[seen] / depth[seen, None], atol=1e-3)
    assert frame['img'].shape == (9, 16, 3) and frame['img'].max() == 0 and dataset[1]['img'].max() > 30
    assert not dataset[4]['points'].tensor[:, -1].any() and dataset[4]['img'].max() == 0


def test_raw_clouds_of_a_folder_are_linked(dataset):
    found = list(dataset.sample_from_file(dataset.data_root + '/pcd/3'))
    assert 'previous_lidar_path' not in found[0]
    assert [each['previous_lidar_path'] for each in found[1:]] == [each['lidar_path'] for each in found[:2]]


def test_clouds_of_another_sequence_or_far_apart_are_not_linked():
    frames = [('a', 0.0), ('a', 0.4), ('a', 0.4), ('a', 2.4), ('b', 2.8), ('b', 2.0), (None, 2.4)]
    samples = [
        dict(lidar_path=str(k), timestamp=time, **({} if scene is None else {'scene_token': scene}))
        for k, (scene, time) in enumerate(frames)
    ]
    assert [each.get('previous_lidar_path') for each in link_previous(samples)] == [None, '0', *[None] * 5]
    assert samples[1]['previous_age_s'] == 0.4
