"""TuSimple's label files, splits, masks and lists of six lanes, samples and results; every fault is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from lane_trees import four_lanes, write_lane_image
from mmdet3d.structures import Det3DDataSample

from perception3d.checks import InputError
from perception3d.datasets.lane_lists import read_gt_list
from perception3d.datasets.transforms.lane_loading import CropResizeLaneImage, LoadLaneImage
from perception3d.datasets.transforms.lane_packing import PackLaneInputs
from perception3d.formats.tusimple.dataset import TuSimpleDataset
from perception3d.formats.tusimple.files import default_rows, format_line, read_labels, sample_rows
from perception3d.formats.tusimple.info import create_infos
from perception3d.structures.lanes import Lanes

ROWS = list(range(20, 60, 4))
STEPS = [
    dict(type=LoadLaneImage, with_mask=True),
    dict(type=CropResizeLaneImage, crop_top_px=0, input_hw=(30, 82)),
    dict(type=PackLaneInputs),
]


def write_tree(root: Path) -> Path:
    lanes = four_lanes()
    files = {
        'label_data_0313.json': [lanes, lanes[1:3]], 'label_data_0601.json': [lanes[:3]],
        'label_data_0531.json': [lanes], 'test_label.json': [[*lanes[:2], np.zeros((0, 2))]],
    }  # fmt: skip
    for name, images in files.items():
        lines = []
        for k, own in enumerate(images):
            raw_file = f'clips/{name.removesuffix(".json")}/{k}/20.jpg'
            write_lane_image(root / raw_file, own)
            lines.append(format_line(raw_file, own, ROWS))
        (root / name).write_text(''.join(lines))
    return root


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_tree(tmp_path_factory.mktemp('tusimple'))
    create_infos(root, progress=False)
    return root


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / 'tree'))


def build(root: Path, split: str = 'train', **kwargs: Any) -> TuSimpleDataset:
    kwargs = {'pipeline': STEPS, 'test_mode': split == 'test', 'serialize_data': False, **kwargs}
    return TuSimpleDataset(str(root), f'perception3d_infos_{split}.pkl', **kwargs)


def test_splits_masks_and_lists_come_from_the_label_files(tree: Path):
    listed = read_gt_list(tree / 'list6/train_gt.txt', 6)
    assert [exist for _, exist in listed.values()] == [[0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0]]
    assert list(listed)[2] == 'clips/label_data_0601/0/20'
    mask = cv2.imread(str(tree / listed['clips/label_data_0313/0/20'][0]), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) == {0, 2, 3, 4, 5}
    found = create_infos(tree, progress=False)
    assert {split: entry['frames'] for split, entry in found.items()} == {
        'train': 3, 'val': 1, 'test': 1, 'trainval': 4
    }  # fmt: skip
    assert found['train']['notes'] == [] and found['trainval']['lanes']['left-1'] == 4


def test_samples_have_rows_and_lanes(tree: Path):
    train, test = build(tree), build(tree, 'test')
    sample = train[1]['data_samples']
    assert sample.gt_lanes.labels.tolist() == [3, 2] and sample.gt_lane_exist.exist.tolist() == [0, 0, 1, 1, 0, 0]
    assert set(sample.gt_lane_seg.lane_mask.unique().tolist()) == {0, 3, 4}
    assert sample.frame_id == 'clips/label_data_0313/1/20' and sample.h_samples == ROWS
    tested = test[0]['data_samples']
    # A lane that is absent everywhere is annotated, as the official tool counts it, but not drawn.
    assert [len(lane) for lane in tested.eval_ann_info['lanes']] == [9, 9, 0] and len(tested.gt_lanes) == 2
    assert tested.eval_ann_info['h_samples'] == ROWS


def test_results_are_json_lines_in_the_rows_of_the_image(tree: Path, tmp_path: Path):
    data = build(tree, 'test')
    sample = data[0]['data_samples']
    sample.pred_lanes = Lanes((np.array([[10, 50], [20, 40.0]]), np.array([[4, 24], [-4, 32.0]])), [1, 2])
    assert data.write_result(sample, tmp_path / 'a.lanes.json')
    entry = json.loads((tmp_path / 'a.lanes.json').read_text())
    assert entry['raw_file'] == 'clips/test_label/0/20.jpg' and entry['h_samples'] == ROWS and entry['run_time'] == 0
    assert entry['lanes'][0] == [-2] * 5 + [20, 16, 12, -2, -2]
    # What leaves the image to the left is absent.
    assert entry['lanes'][1] == [-2, 4, 0] + [-2] * 7
    (line,) = read_labels(tmp_path / 'a.lanes.json')
    assert line.polylines()[0].tolist() == [[20, 40], [16, 44], [12, 48]]
    assert not data.write_result(Det3DDataSample(), tmp_path / 'b.lanes.json')
    # An image that no label file names has TuSimple's rows.
    raw = next(data.sample_from_file(tree / 'clips/test_label/0/20.jpg'))
    del sample.h_samples
    sample.set_metainfo({'frame_id': raw['frame_id'], 'stored_hw': [(720, 1280)]})
    assert json.loads(data.result_of(sample.pred_lanes, sample.metainfo))['h_samples'] == list(range(160, 720, 10))
    # The line has the name of the image, a frame of a video one of its own.
    for path, suffix in (('/data/20.png', '.png'), ('/data/a.mp4', '.jpg')):
        sample.set_metainfo({'img_paths': [path]})
        entry = json.loads(data.result_of(sample.pred_lanes, sample.metainfo))
        assert entry['raw_file'] == raw['frame_id'] + suffix


def test_rows_between_points_are_on_the_straight_line():
    lane = np.array([[100.0, 50], [40, 20], [40, 20]])
    assert sample_rows(lane, [10, 20, 25, 50, 60]) == [-2, 40, 50, 100, -2]
    assert sample_rows(lane[:1], [50, 51]) == [100, -2] and sample_rows(np.zeros((0, 2)), [1, 2]) == [-2, -2]
    assert sample_rows(np.array([[0, 0], [1, 3]]), [1]) == [0.33]
    assert len(default_rows(720)) == 56 and default_rows(360)[0] == 80
    # Whole rows at any height: those of 590 begin at 590 * 160 / 720 = 131.1.
    odd = default_rows(590)
    assert odd[:3] == [131, 139, 147] and odd[-1] == 581 and all(row == int(row) for row in odd)
    assert default_rows(36) == [float(row) for row in range(8, 36)]


def _line(**changes: Any) -> str:
    entry = {'raw_file': 'clips/label_data_0313/0/20.jpg', 'lanes': [[5, 6]], 'h_samples': [20, 30], **changes}
    return json.dumps({key: value for key, value in entry.items() if value is not None})


@pytest.mark.parametrize(
    'text, message',
    [
        ('{"lanes"', 'line 1 is not JSON'),
        ('', 'has no lines'),
        ('[1]', 'line 1: expected {"raw_file"'),
        (_line(h_samples=None), 'line 1: expected {"raw_file"'),
        (_line(lanes=[[5]]), 'line 1: lane 0 has 1 values: expected 2, one for each row'),
        (_line(lanes=[[5, float('nan')]]), 'line 1: lane 0: expected a list of finite numbers'),
        (_line(lanes=[[5, 'x']]), 'line 1: lane 0: expected a list of finite numbers'),
        (_line(lanes=[[]], h_samples=[]), 'line 1: h_samples: expected one or more rows'),
        (_line(h_samples=[30, 30]), 'line 1: h_samples: .* each greater than the one before'),
        (_line(lanes={}), 'line 1: lanes: expected a list of lanes'),
        (_line(lanes=None), 'line 1 has no lanes: only the tasks'),
        (_line(raw_file='../x.jpg'), "line 1: raw_file: '../x.jpg' is not the path of a file in the root"),
        (_line() + '\n\n' + _line(), 'line 3: .* is already in .*label_data_0313.json, line 1'),
        (_line(raw_file='clips/x/20.jpg'), r'1 of 2 files that the labels of train asks for are missing'),
        (_line(raw_file='clips/label_data_0601/0/20.jpg'), 'is in another label file too'),
    ],
)
def test_faults_of_label_files_are_named(copy: Path, text: str, message: str):
    (copy / 'label_data_0313.json').write_text(text + '\n' * bool(text))
    with pytest.raises(InputError, match=message):
        create_infos(copy, progress=False)


def test_lists_that_do_not_fit_are_named_and_written_again(copy: Path):
    listed = copy / 'list6/train_gt.txt'
    text = listed.read_text()
    listed.write_text(text.splitlines()[0] + '\n')
    with pytest.raises(InputError, match='train_gt.txt lacks 2 of 3 images .*--redraw writes it again'):
        create_infos(copy, progress=False)
    create_infos(copy, redraw=True, progress=False)
    assert listed.read_text() == text
    path = copy / 'segGT6/clips/label_data_0313/0/20.png'
    thin = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0).sum()
    create_infos(copy, redraw=True, width_px=30, progress=False)
    assert (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0).sum() > 1.2 * thin
    with pytest.raises(InputError, match='lanes 0 pixels wide cannot be drawn: give --width'):
        create_infos(copy, width_px=0, progress=False)
    path.unlink()
    with pytest.raises(InputError, match='1 of 6 files that the list of train'):
        create_infos(copy, progress=False)


def test_tasks_of_the_test_have_no_lanes(copy: Path):
    (copy / 'test_label.json').rename(copy / 'test_tasks_0627.json')
    assert create_infos(copy, progress=False)['test']['frames'] == 1
    sample = build(copy, 'test')[0]['data_samples']
    assert sample.eval_ann_info is None and 'gt_lanes' not in sample and sample.h_samples == ROWS
    for path in copy.glob('*.json'):
        path.unlink()
    with pytest.raises(InputError, match='has neither label_data'):
        create_infos(copy, progress=False)


def test_real_frames_are_read(samples_of, tmp_path: Path):
    samples = samples_of('tusimple')
    (tmp_path / 'clips').symlink_to(samples / 'clips')
    shutil.copy(samples / 'label_data_sample.json', tmp_path)
    found = create_infos(tmp_path, progress=False)['train']
    assert found['frames'] == 4 and found['lanes'] == {
        'left-3': 0, 'left-2': 4, 'left-1': 4, 'right-1': 4, 'right-2': 4, 'right-3': 1, 'no slot': 0,
    }  # fmt: skip
    assert build(tmp_path).get_data_info(0)['stored_hw'] == [(720, 1280)]


def test_masks_that_are_there_are_replaced_only_on_demand(copy: Path):
    listed, path = copy / 'list6/train_gt.txt', copy / 'segGT6/clips/label_data_0313/0/20.png'
    text = listed.read_text()
    own = np.zeros((60, 164), np.uint8)
    own[30:40, 80:90] = 6
    cv2.imwrite(str(path), own)
    kept = path.read_bytes()
    shutil.rmtree(copy / 'list6')
    notes = create_infos(copy, width_px=30, progress=False)['train']['notes']
    assert path.read_bytes() == kept and 'lanes 30 pixels wide give --redraw too' in notes[-1]
    assert [exist for _, exist in read_gt_list(listed, 6).values()][0] == [0, 0, 0, 0, 0, 1]
    shutil.rmtree(copy / 'list6')
    (copy / 'segGT6/clips/label_data_0313/1/20.png').unlink()
    with pytest.raises(InputError, match='has masks of 2 of 3 images .* draw all masks with --redraw'):
        create_infos(copy, progress=False)
    assert path.read_bytes() == kept
    create_infos(copy, redraw=True, progress=False)
    assert path.read_bytes() != kept and listed.read_text() == text
