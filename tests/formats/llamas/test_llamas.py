"""LLAMAS: labels to lanes and masks by the rules of its scripts, samples, scores, and files that cannot be used."""

from __future__ import annotations

import cv2
import llamas_tree as tree
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.datasets.transforms.lane_loading import CropResizeLaneImage, LoadLaneImage
from perception3d.datasets.transforms.lane_packing import PackLaneInputs
from perception3d.files import read_pickle, write_image, write_json
from perception3d.formats.culane.files import format_lines, read_lines
from perception3d.formats.llamas.dataset import LlamasDataset
from perception3d.formats.llamas.evaluation.average_precision import average_precision
from perception3d.formats.llamas.evaluation.folders import EvaluationOptions, evaluate_folders
from perception3d.formats.llamas.evaluation.metric import LlamasMetric
from perception3d.formats.llamas.files import SLOTS, label_lanes, lane_rows, marker_mask, read_label
from perception3d.formats.llamas.info import create_infos
from perception3d.registry import DATASETS, MODELS
from perception3d.structures.lanes import Lanes


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tree.write_llamas_tree(tmp_path_factory.mktemp('llamas'))
    create_infos(root, marker_masks=True, progress=False)
    return root


@pytest.fixture(scope='module')
def valid(root):
    pipeline = [
        dict(type=LoadLaneImage),
        dict(type=CropResizeLaneImage, crop_top_px=0, input_hw=(72, 128)),
        dict(type=PackLaneInputs),
    ]
    return LlamasDataset(
        data_root=str(root), ann_file='perception3d_infos_valid.pkl', pipeline=pipeline, test_mode=True
    )


@pytest.fixture(scope='module')
def lanes(root):
    return label_lanes(read_label(root / 'labels/valid/rec-b/1.json'))[0]


def _write(tmp_path, lines):
    write_json(tmp_path / 'a.json', {**tree.label({}), 'lanes': lines})
    return tmp_path / 'a.json'


def test_lines_are_counted_outward_and_small_ones_left_out(tmp_path):
    markers = [tree.marker(1, 8, 11), tree.marker(1, 14, 17)]
    path = _write(tmp_path, [
        {'lane_id': name, 'markers': markers} for name in ('l3', 'l0', 'r4')
    ] + [
        {'lane_id': 'r0', 'markers': markers[:1]},
        {'lane_id': 'r1', 'markers': [tree.marker(1, 50, 52), tree.marker(1, 54, 56)]},
        {'lane_id': 'r2', 'markers': []},
    ])  # fmt: skip
    assert [line.name for line in read_label(path).lines] == ['l1', 'l0', 'r0']


def test_a_line_has_an_x_in_each_row_from_its_last_marker_to_the_edge(root):
    lines = {line.name: line for line in read_label(root / 'labels/train/rec-a/1.json').lines}
    assert lines.keys() == {'l1', 'l0', 'r0', 'r1'}
    rows = lane_rows(lines['l0'])
    known = np.flatnonzero(rows >= 0)
    # From the start of the farthest marker, 53 m away and 2 rows high, to the bottom, across the gaps between dashes.
    assert known[0] == round(330 + 1400 * 1.5 / 53) and known[-1] == 716 and len(known) == 716 - known[0] + 1
    y = np.arange(400, 717)
    distance = 1400 * 1.5 / (y - 330)
    np.testing.assert_allclose(rows[400:], 640 + 1400 * -1.7 / distance, atol=15)
    # A line that leaves the image at its side ends there.
    assert np.flatnonzero(lane_rows(lines['l1']) >= 0)[-1] < 716
    lanes, slots = label_lanes(read_label(root / 'labels/train/rec-a/1.json'), first_row=400)
    assert slots == [0, 1, 2, 3] and all(lane[0, 1] > lane[-1, 1] == 400 for lane in lanes)


def test_masks_hold_the_painted_markers(root):
    mask = marker_mask(read_label(root / 'labels/train/rec-a/1.json'))
    assert mask.shape == (717, 1276) and set(np.unique(mask)) == {0, 1, 2, 3, 4}
    y = round(330 + 1400 * 1.5 / 9.5)  # In a dash.
    x = np.flatnonzero(mask[y] == SLOTS.index('l0') + 1)
    assert 0.5 * 14.7 < len(x) <= 1.2 * 14.7  # 0.1 m at 9.5 m.
    assert not mask[round(330 + 1400 * 1.5 / 12.5)].any()  # Between two.
    stored = cv2.imread(str(root / 'perception3d_lane_masks/train/rec-a/1.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, mask)


def test_infos_and_samples(root, valid, lanes):
    info = read_pickle(root / 'perception3d_infos_valid.pkl')['data_list'][1]
    assert info['lane_slots'] == [0, 1] and info['lane_exist'] == [1, 1, 0, 0]
    sample = valid[0]['data_samples']
    assert sample.frame_id == 'color_images/valid/rec-b/1_color_rect'
    assert sample.gt_lanes.labels.tolist() == [0, 1, 2, 3] and sample.gt_lane_exist.exist.tolist() == [1] * 4
    for lane, other in zip(sample.eval_ann_info['lanes'], lanes):
        np.testing.assert_array_equal(lane, other)
    (test,) = read_pickle(root / 'perception3d_infos_test.pkl')['data_list']
    assert not test['labelled']


def _slow_precision(truth, probability):
    """The area with a comparison of all pixels at each threshold."""
    area, before = 0.0, (1.0, 0.0)
    for step in range(101):
        found = probability / 255 >= (100 - step) / 100
        hits = (found & truth).sum()
        recall = hits / truth.sum() if truth.any() else 0
        area += (recall - before[1]) * before[0]
        before = hits / found.sum() if found.any() else 0, recall
    return area


def test_average_precision_is_that_of_all_thresholds():
    rng = np.random.default_rng(0)
    for share in (0, 0.02, 0.5):
        truth = rng.random((31, 40)) < share
        probability = np.clip(truth * 80 + rng.integers(0, 176, truth.shape), 0, 255).astype(np.uint8)
        assert average_precision(truth, probability) == _slow_precision(truth, probability)
    assert average_precision(truth, truth * np.uint8(255)) == 1 and average_precision(truth & False, probability) == 0


def test_scores_of_files(root, tmp_path, lanes):
    moved = [lanes[0], lanes[1] + [2, 0], lanes[2] + [60, 0]]
    (tmp_path / 'rec-b').mkdir()
    (tmp_path / 'rec-b/1.lines.txt').write_text(format_lines([lane[::20] for lane in moved]))
    scores, text = evaluate_folders(root / 'labels/valid', tmp_path, progress=False)
    # Two of three found of four; the other image has two lanes and no file.
    assert {key: scores['0.5'][key] for key in ('tp', 'fp', 'fn')} == {'tp': 2, 'fp': 1, 'fn': 4}
    assert 'ap' not in scores and '1 of 2 images have no result file' in text
    for name in ('1', '2'):
        mask = marker_mask(read_label(root / f'labels/valid/rec-b/{name}.json'))
        for slot in range(4):
            write_image(tmp_path / f'rec-b/{name}.json_{slot + 1}.png', ((mask == slot + 1) * 255).astype(np.uint8))
    scores, _ = evaluate_folders(root / 'labels/valid', tmp_path, progress=False)
    # A class that an image does not have adds 0 to the mean, as in the official tool.
    assert scores['ap'] == {'l1': 100, 'l0': 100, 'r0': 50, 'r1': 50} and scores['0.5']['tp'] == 2


def test_result_files_that_cannot_be_scored(root, tmp_path):
    with pytest.raises(InputError, match=r'holds neither RECORDING/LABEL\.lines\.txt nor RECORDING/LABEL\.json_1\.png'):
        evaluate_folders(root / 'labels/valid', tmp_path, progress=False)
    write_image(tmp_path / 'rec-b/1.json_1.png', np.zeros((288, 960), np.uint8))
    with pytest.raises(InputError, match=r'1\.json_1\.png is 960 x 288 pixels: expected 1276 x 717'):
        evaluate_folders(root / 'labels/valid', tmp_path, progress=False)
    write_image(tmp_path / 'rec-b/1.json_1.png', np.zeros((717, 1276), np.uint8))
    with pytest.raises(InputError, match=r'1\.json_2\.png does not exist: expected a PNG of each class'):
        evaluate_folders(root / 'labels/valid', tmp_path, progress=False)
    with pytest.raises(InputError, match=r'holds no \.json files: give --gt a folder of labels'):
        evaluate_folders(root / 'color_images', tmp_path, progress=False)
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/1.lines.txt').write_text('')
    with pytest.raises(InputError, match='has no result file of any of the 2 images, such as rec-b/1.lines.txt'):
        evaluate_folders(root / 'labels/valid', tmp_path / 'other', progress=False)


def test_scores_of_the_test_loop_are_those_of_its_files(root, valid, lanes, tmp_path):
    metric = LlamasMetric(format_dir=str(tmp_path), thresholds=(0.5, 0.75))
    rng = np.random.default_rng(1)
    for index in range(2):
        sample = valid[index]['data_samples']
        found = tuple(lane[::10] + rng.normal(0, 4, 2) for lane in lanes[:3])
        sample.pred_lanes = Lanes(found, [0, 1, 2])
        metric.process(None, [sample.to_dict()])
    scores = metric.evaluate(2)
    options = EvaluationOptions((0.5, 0.75))
    files, _ = evaluate_folders(root / 'labels/valid', tmp_path, options, progress=False)
    assert scores['llamas/f1'] == files['0.5']['f1'] and scores['llamas/recall'] == files['0.5']['recall'] > 0.5
    assert scores['llamas/f1@0.75'] == files['0.75']['f1'] and (tmp_path / 'rec-b/2.lines.txt').is_file()
    sample.eval_ann_info = None
    with pytest.raises(InputError, match='rec-b/2_color_rect has no annotated lanes, so it cannot be scored'):
        LlamasMetric().process(None, [sample.to_dict()])
    only = LlamasMetric(format_dir=str(tmp_path / 'only'), format_only=True)
    only.process(None, [sample.to_dict()])
    assert only.evaluate(1) == {} and (tmp_path / 'only/rec-b/2.lines.txt').is_file()


@pytest.mark.parametrize(
    'change, fault',
    [
        (lambda c: c.pop('lanes'), 'is not a label file of LLAMAS'),
        (lambda c: c['lanes'][0]['markers'][0]['pixel_start'].update(y='nan'), 'is not a label file of LLAMAS'),
        (lambda c: c['lanes'][0]['markers'][0]['world_end'].update(z='nan'), 'holds numbers that are not finite'),
        (lambda c: c['lanes'][0].update(lane_id=c['lanes'][1]['lane_id']), 'has two lines of the lane_id'),
        (lambda c: c['lanes'][0].update(lane_id='x0'), "lane_id 'x0': expected l0, l1"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path, change, fault):
    content = tree.label()
    change(content)
    write_json(tmp_path / 'a.json', content)
    with pytest.raises(InputError, match=rf'a\.json.*{fault}'):
        read_label(tmp_path / 'a.json')


def test_trees_that_cannot_be_used(tmp_path):
    root = tree.write_llamas_tree(tmp_path)
    (root / 'color_images/train/rec-a/1_color_rect.png').unlink()
    with pytest.raises(InputError, match=r'1 of 1 files that labels/train asks for are missing'):
        create_infos(root, progress=False)
    write_image(root / 'color_images/train/rec-a/1_color_rect.png', np.zeros((717, 640, 3), np.uint8))
    with pytest.raises(InputError, match='is 640 x 717 pixels: expected 1276 x 717'):
        create_infos(root, progress=False)


def test_the_shipped_config_trains_and_writes_a_result_file(root, tmp_path):
    torch.manual_seed(0)
    config = load_config(config_path('enet_288x960_12e_llamas'), dict(data_root=str(root), input_hw=[32, 64]))
    model = MODELS.build(config.model)
    model.decoder.threshold = model.decoder.exist_threshold = 0.0
    sets = {name: DATASETS.build(config[f'{name}_dataloader'].dataset) for name in ('train', 'test')}
    assert len(sets['test']) == 2
    # Batch norm of one image has no spread: the only image of train, twice.
    batch = pseudo_collate([sets['train'][0]] * 2)
    losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
    assert all(torch.isfinite(value) for value in losses.values())
    with torch.no_grad():
        (sample,) = model.eval()(**model.data_preprocessor(pseudo_collate([sets['test'][0]])), mode='predict')
    rows = [sorted(line[:, 1].tolist()) for line in sample.pred_lanes.polylines]
    # 716, 696, .., 316: what is scored begins in row 300.
    assert rows == [list(range(316, 717, 20))] * 4
    metric = config.test_evaluator.type(format_dir=str(tmp_path), format_only=True)
    metric.process(None, [sample.to_dict()])
    assert metric.evaluate(1) == {}
    assert len(read_lines(tmp_path / 'rec-b/1.lines.txt')) == 4
