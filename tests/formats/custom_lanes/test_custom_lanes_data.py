"""One's own images with lanes: files of lanes, slots, samples and results; every fault is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from lane_trees import four_lanes, write_lane_image

from perception3d.checks import InputError
from perception3d.datasets.transforms.lane_loading import CropResizeLaneImage, LoadLaneImage
from perception3d.datasets.transforms.lane_packing import PackLaneInputs
from perception3d.formats.custom_lanes.dataset import CustomLanesDataset
from perception3d.formats.custom_lanes.files import format_line, read_lane_lines, slot_names
from perception3d.formats.custom_lanes.info import create_infos
from perception3d.structures.lanes import Lanes

SIZES = {'a.jpg': (60, 164), 'sub/b.png': (80, 120), 'c.jpg': (60, 164), 'd.jpg': (60, 164)}
STEPS = [
    dict(type=LoadLaneImage, with_mask=True, lane_width_px=4),
    dict(type=CropResizeLaneImage, crop_top_px=0, input_hw=(30, 82)),
    dict(type=PackLaneInputs),
]


def write_tree(root: Path) -> Path:
    for name, hw in SIZES.items():
        write_lane_image(root / 'images' / name, four_lanes(hw), hw)
    lines = {name: format_line(f'images/{name}', four_lanes(hw)) for name, hw in SIZES.items()}
    (root / 'train.json').write_text(lines['a.jpg'] + '\n' + lines['sub/b.png'])
    # Slots that the user states, and a mask.
    cv2.imwrite(str(root / 'mask.png'), np.full(SIZES['c.jpg'], 2, np.uint8))
    stated = {'image': 'images/c.jpg', 'lanes': [four_lanes()[0].tolist(), [[3, 4]]], 'slots': [0, -1]}
    (root / 'val.json').write_text(json.dumps({**stated, 'mask': 'mask.png'}))
    (root / 'test.json').write_text('{"image": "images/d.jpg"}\n')
    return root


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_tree(tmp_path_factory.mktemp('own_lanes'))
    create_infos(root, progress=False)
    return root


def build(root: Path, split: str, **kwargs: Any) -> CustomLanesDataset:
    kwargs = {'pipeline': STEPS, 'test_mode': split == 'test', 'serialize_data': False, **kwargs}
    return CustomLanesDataset(str(root), f'perception3d_infos_{split}.pkl', **kwargs)


def test_samples_have_the_slots_of_the_tree(tree: Path):
    train, val, test = (build(tree, split) for split in ('train', 'val', 'test'))
    assert train.metainfo['classes'] == ('left-2', 'left-1', 'right-1', 'right-2')
    samples = [train[k]['data_samples'] for k in range(2)]
    assert [sample.gt_lanes.labels.tolist() for sample in samples] == [[3, 2, 1, 0]] * 2
    assert [sample.stored_hw for sample in samples] == [[(60, 164)], [(80, 120)]]
    assert set(samples[1].gt_lane_seg.lane_mask.unique().tolist()) == {0, 1, 2, 3, 4}
    (sample,) = (val[k]['data_samples'] for k in range(1))
    assert sample.gt_lanes.labels.tolist() == [0] and sample.gt_lane_exist.exist.tolist() == [1, 0, 0, 0]
    assert set(sample.gt_lane_seg.lane_mask.unique().tolist()) == {2}
    assert test[0]['data_samples'].eval_ann_info is None and test[0]['data_samples'].frame_id == 'images/d'
    with pytest.raises(InputError, match='has frames without labels: train on another split'):
        build(tree, 'test', test_mode=False)


def test_results_are_lines_that_are_read_again(tree: Path, tmp_path: Path):
    data = build(tree, 'test')
    sample = data[0]['data_samples']
    sample.pred_lanes = Lanes((np.array([[10.12345, 50], [20, 40]]),), [2], [0.75])
    path = tmp_path / 'd.lanes.json'
    assert data.write_result(sample, path)
    assert json.loads(path.read_text()) == {
        'image': 'images/d.jpg', 'lanes': [[[10.123, 50], [20, 40]]], 'slots': [2], 'scores': [0.75]
    }  # fmt: skip
    (line,) = read_lane_lines(path)
    assert line.slots == (2,) and line.lanes[0].tolist() == [[10.123, 50], [20, 40]]


def test_slots_have_names():
    assert slot_names(1) == ('lane',) and slot_names(2) == ('left-1', 'right-1')
    assert slot_names(3) == ('lane-1', 'lane-2', 'lane-3') and len(set(slot_names(254))) == 254
    with pytest.raises(InputError, match='0 slots: expected 1 to 254'):
        slot_names(0)


def test_a_lane_without_a_pixel_in_the_image_has_no_slot(tmp_path: Path):
    root = write_tree(tmp_path)
    inside, outside = four_lanes()[0].tolist(), [[500, 50], [500, 10]]
    for slots, expected in ((None, [2, -1]), ([1, 3], [1, -1])):
        line = {'image': 'images/c.jpg', 'lanes': [inside, outside]}
        (root / 'val.json').write_text(json.dumps({**line, **({'slots': slots} if slots else {})}))
        assert create_infos(root, progress=False)['val']['notes'][-1].startswith('1 images have lanes without a slot')
        sample = build(root, 'val')[0]['data_samples']
        exist = [int(slot in expected) for slot in range(4)]
        assert sample.gt_lanes.labels.tolist() == expected and sample.gt_lane_exist.exist.tolist() == exist


def test_any_lane_alike_is_one_slot(tree: Path, tmp_path: Path):
    root = Path(shutil.copytree(tree, tmp_path / 'tree'))
    (root / 'val.json').unlink()
    assert create_infos(root, 1, progress=False)['train']['lanes'] == {'lane': 8, 'no slot': 0}
    assert build(root, 'train')[0]['data_samples'].gt_lane_exist.exist.tolist() == [1]


@pytest.mark.parametrize(
    'text, message',
    [
        ('{"image"', 'train.json, line 1 is not JSON'),
        ('{"lanes": []}', 'line 1: expected {"image": "images/a.jpg"'),
        ('{"image": "../a.jpg", "lanes": []}', 'is not the path of a file in the root'),
        ('{"image": "images/a.jpg"}', 'line 1 has no lanes: only images of test.json may be without'),
        ('{"image": "images/x.jpg", "lanes": []}', r'1 of 1 files that train.json asks for are missing in .*x.jpg'),
        ('{"image": "images/a.jpg", "lanes": 3}', 'lanes: expected a list of lanes'),
        ('{"image": "images/a.jpg", "lanes": [[1, 2, 3]]}', 'lane 0: expected points'),
        ('{"image": "images/a.jpg", "lanes": [[[1, 2, 3]]]}', 'lane 0: expected points'),
        ('{"image": "images/a.jpg", "lanes": [[], [[1, NaN]]]}', 'lane 1: expected points .* of finite numbers'),
        (
            f'{{"image": "images/a.jpg", "lanes": [[[1, 1{400 * "0"}]]]}}',
            'lane 0: expected points .* of finite numbers',
        ),
        ('{"image": "images/a.jpg", "lanes": [[]], "slots": []}', 'expected a number for each of 1 lanes'),
        (
            '{"image": "images/a.jpg", "lanes": [[]], "slots": [4]}',
            'has the slot 4: expected 0 to 3, or give',
        ),
        ('{"image": "images/a.jpg", "lanes": [], "mask": 3}', 'line 1: mask 3: expected the path of a PNG as text'),
        ('{"image": "images/a.jpg", "lanes": [], "slot": []}', "key .*line 1.*'slot'"),
        ('{"image": "images/a.jpg", "lanes": [], "mask": "no.png"}', 'are missing in .*no.png'),
        ('{"image": "images/a.jpg", "lanes": [], "mask": "images/sub/b.png"}', 'is a mask of 120x80 pixels, but'),
        ('{"image": "images/a.jpg", "lanes": []}\n' * 2, 'line 2: images/a.jpg is already in .*line 1'),
    ],
)
def test_faults_are_named(tree: Path, tmp_path: Path, text: str, message: str):
    root = Path(shutil.copytree(tree, tmp_path / 'tree'))
    (root / 'train.json').write_text(text)
    with pytest.raises(InputError, match=message):
        create_infos(root, progress=False)


def test_slots_without_a_middle_must_be_stated(tree: Path, tmp_path: Path):
    with pytest.raises(InputError, match='train.json, line 1 states no slots: with 3 slots'):
        create_infos(tree, 3, progress=False)
    with pytest.raises(InputError, match='has none of train.json, val.json'):
        create_infos(tmp_path, progress=False)
