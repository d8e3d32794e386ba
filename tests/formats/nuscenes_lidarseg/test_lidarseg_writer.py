"""The built-in world in the format of nuScenes-lidarseg: the devkit reads it, labels fit the boxes, all classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box

from perception3d.files import read_pickle
from perception3d.formats.nuscenes_lidarseg.files import (
    CLASS_OF_CATEGORY,
    CLASSES,
    lidarseg_encoding,
)


def _panoptic(path: Path) -> np.ndarray:
    return np.load(path)['data'].astype(int)


@pytest.fixture(scope='module')
def devkit(simulated_lidarseg: Path) -> NuScenes:
    return NuScenes('v1.0-sim', str(simulated_lidarseg), verbose=False)


def test_the_validation_split_holds_all_classes(simulated_lidarseg: Path) -> None:
    content = read_pickle(simulated_lidarseg / 'perception3d_infos_lidarseg_sim_val.pkl')
    encoding, counts = lidarseg_encoding(content['metainfo']['category_index'], 'category.json'), np.zeros(256, int)
    for info in content['data_list']:
        path = simulated_lidarseg / info['pts_semantic_mask_path']
        counts += np.bincount(encoding.labels(encoding.read(path), path), minlength=256)
    assert len(content['data_list']) == 8
    assert not {name: int(counts[label]) for label, name in enumerate(CLASSES) if counts[label] < 10}
    assert counts[CLASSES.index('driveable_surface')] > 0.2 * counts.sum()
    assert counts[CLASSES.index('pedestrian')] < 0.03 * counts.sum()


def test_the_devkit_reads_the_labels(devkit: NuScenes) -> None:
    assert [devkit.lidarseg_idx2name_mapping[k] for k in range(32)] == list(CLASS_OF_CATEGORY)
    assert len(devkit.lidarseg) == len(devkit.panoptic) == len(devkit.sample) == 10
    for row in devkit.lidarseg:
        sample = devkit.get('sample', devkit.get('sample_data', row['sample_data_token'])['sample_token'])
        assert sample['data']['LIDAR_TOP'] == row['sample_data_token'] == row['token']
        ids = np.fromfile(Path(devkit.dataroot) / row['filename'], np.uint8)
        panoptic = _panoptic(Path(devkit.dataroot) / devkit.get('panoptic', row['token'])['filename'])
        np.testing.assert_array_equal(panoptic // 1000, ids)


def test_points_in_a_box_have_the_category_and_the_instance_of_its_object(devkit: NuScenes) -> None:
    numbers: dict[str, set[int]] = {}
    inside = agree = 0
    for sample in devkit.sample:
        token = sample['data']['LIDAR_TOP']
        path, boxes, _ = devkit.get_sample_data(token)
        points = LidarPointCloud.from_file(str(path)).points[:3]
        labels = _panoptic(Path(devkit.dataroot) / devkit.get('panoptic', token)['filename'])
        for box in boxes:
            within = labels[points_in_box(box, points)]
            index = devkit.lidarseg_name2idx_mapping[box.name]
            own = within[within // 1000 == index]
            inside, agree = inside + len(within), agree + len(own)
            if len(own) > 20:
                values, count = np.unique(own, return_counts=True)
                assert count.max() > 0.95 * len(own)
                instance = devkit.get('sample_annotation', box.token)['instance_token']
                numbers.setdefault(instance, set()).add(int(values[count.argmax()]))
    # Besides the object's own points, a box holds some of the ground below it.
    assert inside > 5000 and agree > 0.95 * inside
    assert all(len(found) == 1 for found in numbers.values()) and len(numbers) > 30
    assert all(number % 1000 > 0 for found in numbers.values() for number in found)
