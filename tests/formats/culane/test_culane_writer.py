"""The built-in world in the format of CULane: lists, lanes, masks, categories, and what `extra/` holds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from perception3d.apis.simulate import simulate
from perception3d.datasets.lane_masks import draw_lane_mask, read_lane_mask
from perception3d.files import read_image, read_json, read_pickle
from perception3d.formats.culane.files import CATEGORIES, SLOTS
from perception3d.formats.culane.simulate.profiles import PROFILES
from perception3d.formats.culane.simulate.writer import TRAIN_ODDS, WRITER, category_of
from perception3d.simulation.jobs import SECOND_SPLIT, Request
from perception3d.simulation.world.lane_streets import CATEGORIES as WORLD_CATEGORIES


def _infos(root: Path, split: str) -> list[dict]:
    return read_pickle(root / f'perception3d_infos_{split}.pkl')['data_list']


def test_the_reader_finds_all_splits_and_all_nine_categories(simulated_culane):
    counts = {split: len(_infos(simulated_culane, split)) for split in ('train', 'val', 'test')}
    assert counts == {'train': 7, 'val': 1, 'test': 9}
    assert {info['category'] for info in _infos(simulated_culane, 'test')} == set(CATEGORIES)
    assert CATEGORIES == WORLD_CATEGORIES
    lines = (simulated_culane / 'list/test_split/test8_night.txt').read_text().splitlines()
    assert len(lines) == 1 and lines[0].startswith('/driver_') and lines[0].endswith('.jpg')


def test_lanes_are_as_in_culanes_files(simulated_culane):
    for info in _infos(simulated_culane, 'train') + _infos(simulated_culane, 'test'):
        image = info['images']['front']
        assert (image['height'], image['width']) == (590, 1640)
        assert read_image(simulated_culane / image['img_path']).shape == (590, 1640, 3)
        for lane in info['lanes']:
            assert lane[0, 1] <= 590 and (np.diff(lane[:, 1]) == -10).all() and (lane[:, 1] % 10 == 0).all()
            assert ((lane[1:-1, 0] >= 0) & (lane[1:-1, 0] < 1640)).all()
        lanes = {'cross': (0, 0), None: (0, 4)}.get(info.get('category'), (2, 4))
        assert lanes[0] <= len(info['lanes']) <= lanes[1]
        if info.get('category') != 'cross' and info['lanes']:
            # Both borders of the ego lane are always there.
            assert {1, 2} <= set(info['lane_slots'])


def test_masks_are_the_drawn_lanes(simulated_culane):
    for info in _infos(simulated_culane, 'train'):
        mask = read_lane_mask(simulated_culane / info['lane_mask_path'], (590, 1640), len(SLOTS))
        slots = np.flatnonzero(info['lane_exist'])
        assert len(slots) == len(info['lanes'])
        np.testing.assert_array_equal(mask, draw_lane_mask(info['lanes'], slots, (590, 1640), 16))
        assert set(np.unique(mask)) == {0, *(slots + 1)}


def test_extra_holds_steering_depth_and_classes_of_every_image(simulated_culane):
    units = read_json(simulated_culane / 'extra/units.json')
    assert set(units) == {'steering.json', 'visible.json', 'depth', 'semantic'}
    visible = read_json(simulated_culane / 'extra/visible.json')
    turns = []
    for split in ('train', 'val', 'test'):
        for info in _infos(simulated_culane, split):
            turns.append(info['steering_rad'])
            depth = cv2.imread(str(simulated_culane / info['depth_path']), cv2.IMREAD_UNCHANGED)
            classes = cv2.imread(str(simulated_culane / info['semantic_path']), cv2.IMREAD_UNCHANGED)
            assert (depth.dtype, depth.shape) == (np.uint16, (590, 1640))
            assert (classes.dtype, classes.shape) == (np.uint8, (590, 1640)) and classes.max() < len(units['semantic'])
            sky = classes == [int(k) for k, name in units['semantic'].items() if name == 'sky'][0]
            assert (depth[sky] == 0).all() and depth[~sky].max() < 65536
            # The lowest rows show what is a few metres ahead.
            assert 1.0 < np.median(depth[580:]) / 256.0 < 12.0
            assert len(visible[info['frame_id']]) == len(info['lanes'])
    assert len(turns) == 17 and max(np.abs(turns)) < 0.1 and len(set(turns)) > 3


@pytest.mark.parametrize('index', [1, SECOND_SPLIT + 1])
def test_a_scene_is_the_same_in_any_amount(simulated_culane, tmp_path, index):
    split = 'test' if index >= SECOND_SPLIT else 'train'
    amount = (1, 2) if split == 'test' else (2, 0)
    simulate(WRITER, Request(tmp_path, 0, PROFILES['tiny'], *amount))
    name = (tmp_path / f'list/{split}.txt').read_text().split()[-1].lstrip('/')
    for path in (name, name.replace('.jpg', '.lines.txt'), f'extra/depth/{name}'.replace('.jpg', '.png')):
        assert (tmp_path / path).read_bytes() == (simulated_culane / path).read_bytes()


def test_training_has_every_category_and_testing_all_in_turn():
    assert sum(TRAIN_ODDS) == pytest.approx(1.0)
    assert {category_of(0, k) for k in range(200)} == set(CATEGORIES)
    assert [category_of(4, SECOND_SPLIT + k) for k in range(9)] == list(CATEGORIES)
