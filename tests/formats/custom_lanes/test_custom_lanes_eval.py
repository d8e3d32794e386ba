"""Scores of one's own lanes: files of JSON lines by CULane's rule, and the metric that writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from perception3d.checks import InputError
from perception3d.evaluation.lane_f1 import LaneRule, count_lanes
from perception3d.formats.custom_lanes.evaluation.lane_files import evaluate_lane_files
from perception3d.formats.custom_lanes.evaluation.metric import CustomLanesMetric
from perception3d.formats.custom_lanes.files import format_line
from perception3d.structures.lanes import Lanes
from tools import evaluate

SIZE = (640, 360)
LEFT = np.column_stack([np.linspace(200, 300, 9), np.linspace(359, 180, 9)])
RIGHT = LEFT + [150, 0]


def test_files_are_scored_as_their_lanes(tmp_path: Path):
    gt, pred, out = (tmp_path / name for name in ('gt.json', 'pred.json', 'metrics.json'))
    truth = [('a.jpg', [LEFT, RIGHT]), ('b.jpg', []), ('c.jpg', [LEFT[:1], LEFT])]
    found = [('a.jpg', [LEFT + [3, 0], RIGHT + [60, 0]]), ('b.jpg', [LEFT])]
    gt.write_text(''.join(format_line(*line) for line in truth) + '{"image": "d.jpg"}\n')
    pred.write_text(''.join(format_line(*line) for line in found))
    words = ['custom-lanes', '--gt', str(gt), '--pred', str(pred), '--out', str(out), '--size', '640', '360']
    assert evaluate.main([*words, '--width', '20', '--iou', '0.5', '0.8']) == 0
    scores = json.loads(out.read_text())
    rule = LaneRule(SIZE, (0.5, 0.8), 20)
    at = [count_lanes(lanes, dict(found).get(image, []), rule) for image, lanes in truth]
    for k, name in enumerate(('0.5', '0.8')):
        sums = np.sum([counts.at(k) for counts in at], axis=0).tolist()
        assert [scores[name][key] for key in ('tp', 'fp', 'fn')] == sums
    # Of d.jpg nothing is annotated, and c.jpg has no line in PRED.
    assert scores['0.5'] == {'tp': 1, 'fp': 2, 'fn': 3, 'precision': 1 / 3, 'recall': 0.25, 'f1': pytest.approx(2 / 7)}
    assert scores['notes'] == [f'1 of 3 images have no line in {pred}: no lanes are predicted there']


def test_bad_input_is_named(tmp_path: Path):
    gt, pred = tmp_path / 'gt.json', tmp_path / 'pred.json'
    gt.write_text('{"image": "a.jpg"}\n')
    pred.write_text(format_line('b.jpg', []))
    with pytest.raises(InputError, match='line 1: b.jpg is not in'):
        evaluate_lane_files(gt, pred, LaneRule(SIZE))
    pred.write_text(format_line('a.jpg', []))
    with pytest.raises(InputError, match='no line with lanes'):
        evaluate_lane_files(gt, pred, LaneRule(SIZE))
    gt.write_text(format_line('a.jpg', [LEFT]))
    pred.write_text('{"image": "a.jpg"}\n')
    with pytest.raises(InputError, match='pred.json, line 1 has no "lanes": write "lanes": ..'):
        evaluate_lane_files(gt, pred, LaneRule(SIZE))
    pred.write_text('{"image": "a.jpg", "lane": []}\n')
    with pytest.raises(InputError, match="pred.json, line 1.*'lane'.*lanes"):
        evaluate_lane_files(gt, pred, LaneRule(SIZE))


def test_the_metric_has_the_scores_of_its_file(tmp_path: Path):
    samples = []
    for name, lanes in (('images/a', [LEFT + [2.00049, 0], RIGHT + [30, 0]]), ('images/b', [])):
        predicted = Lanes(tuple(lanes), np.arange(len(lanes)), np.ones(len(lanes)))
        packed = {'frame_id': name, 'img_paths': [f'/data/{name}.png'], 'stored_hw': [SIZE[::-1]]}
        samples.append({**packed, 'pred_lanes': predicted, 'eval_ann_info': {'lanes': [LEFT, RIGHT]}})
    metric = CustomLanesMetric(format_dir=str(tmp_path), width_px=20)
    metric.process(None, samples)
    scores = metric.compute_metrics(metric.results)
    gt = tmp_path / 'gt.json'
    gt.write_text(''.join(format_line(f'images/{name}.png', [LEFT, RIGHT]) for name in 'ab'))
    files, _ = evaluate_lane_files(gt, tmp_path / 'lanes.json', LaneRule(SIZE, width_px=20), progress=False)
    assert scores == {key: files['0.5'][key] for key in ('f1', 'precision', 'recall')}
    assert scores['recall'] == 0.25 and 'notes' not in files
