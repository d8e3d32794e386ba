"""TuSimple's scores against a plain version of the official rules, and the metric that scores its own lines."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from perception3d.checks import InputError
from perception3d.formats.tusimple.evaluation.accuracy import ImageScores, score_image
from perception3d.formats.tusimple.evaluation.label_files import evaluate_label_files
from perception3d.formats.tusimple.evaluation.metric import TuSimpleMetric
from perception3d.structures.lanes import Lanes
from tools import evaluate

ROWS = list(range(160, 720, 10))


def plain_score(pred: list, gt: list, rows: list, run_time: float) -> tuple[float, float, float]:
    """The rules row by row; the slope in closed form."""
    if run_time > 200 or len(pred) - len(gt) > 2:
        return 0.0, 0.0, 1.0
    shares = []
    for truth in gt:
        points = [(y, x) for x, y in zip(truth, rows) if x >= 0]
        limit = 20.0
        if len(points) > 1:
            mean_y, mean_x = (sum(values) / len(points) for values in zip(*points))
            slope = sum((y - mean_y) * (x - mean_x) for y, x in points) / sum((y - mean_y) ** 2 for y, _ in points)
            limit = 20 * math.sqrt(1 + slope * slope)
        share = 0.0
        for lane in pred:
            near = 0
            for a, b in zip(lane, truth):
                near += abs((a if a >= 0 else -100) - (b if b >= 0 else -100)) < limit
            share = max(share, near / len(rows))
        shares.append(share)
    misses = len([share for share in shares if share < 0.85])
    false = (len(pred) - (len(gt) - misses)) / len(pred) if pred else 0.0
    if len(gt) >= 5:
        shares.remove(min(shares))
        misses = max(misses - 1, 0)
    lanes = min(len(gt), 4) or 1
    return sum(shares) / lanes, false, misses / lanes


def random_image(rng: np.random.Generator) -> tuple[list, list, float]:
    gt = []
    for _ in range(rng.integers(0, 7)):
        x = rng.integers(0, 1280) + rng.uniform(-2, 2) * (np.array(ROWS) - 160) * (rng.random() < 0.8)
        x = np.where((np.arange(56) < rng.integers(0, 30)) | (x < 0) | (x > 1279), -2, np.rint(x))
        gt.append(x.astype(int).tolist())
    if gt and rng.random() < 0.2:
        gt.append([x + 5 if x >= 0 else -2 for x in gt[0]])
    pred = [[x + int(rng.integers(-25, 26)) if x >= 0 else -2 for x in gt[k % len(gt)]] for k in range(len(gt))]
    pred = [[x + 1 for x in lane] if rng.random() < 0.3 else [float(x) for x in lane] for lane in pred]
    for lane in gt[: rng.integers(0, 3)]:
        pred.append([x + int(rng.integers(0, 40)) if x >= 0 else -2 for x in lane])
    pred = pred[rng.integers(0, 3) :] + [[-2] * 56] * rng.integers(0, 2)
    return pred, gt, float(rng.choice([0, 150, 200, 200.5], p=[0.6, 0.2, 0.15, 0.05]))


def test_scores_are_those_of_the_plain_rules(tmp_path: Path):
    lines: dict[str, list] = {'gt': [], 'pred': []}
    expected = []
    for number in range(150):
        pred, gt, run_time = random_image(np.random.default_rng(number))
        scores = score_image(pred, gt, ROWS, run_time)
        expected.append(plain_score(pred, gt, ROWS, run_time))
        assert (scores.accuracy, scores.fp, scores.fn) == pytest.approx(expected[-1], abs=1e-12)
        name = {'raw_file': f'clips/{number}/20.jpg'}
        lines['gt'].append({**name, 'lanes': gt, 'h_samples': ROWS})
        lines['pred'].insert(0, {**name, 'lanes': pred, 'run_time': run_time})
    assert 5 < sum(each == (0, 0, 1) for each in expected) < 75 and any(fp < 0 for _, fp, _ in expected)
    for name, content in lines.items():
        (tmp_path / f'{name}.json').write_text('\n'.join(map(json.dumps, content)))
    out = tmp_path / 'metrics.json'
    words = ['tusimple', '--gt', str(tmp_path / 'gt.json'), '--pred', str(tmp_path / 'pred.json'), '--out', str(out)]
    assert evaluate.main(words) == 0
    found = json.loads(out.read_text())
    assert [found[key] for key in ('accuracy', 'fp', 'fn')] == pytest.approx(np.mean(expected, axis=0))
    assert 'count as missed' in found['notes'][0]


def upright(x: float) -> list[float]:
    return [float(x)] * 56


def test_rules_that_surprise():
    lane, other = upright(300), upright(600)
    half = [-2.0] * 24 + [300.0] * 32
    # Rows in which both are absent are right, so that a lane of nothing has an accuracy.
    assert score_image([upright(-2)], [half], ROWS, 0) == ImageScores(24 / 56, 1, 1)
    # An absent point is at -100 on both sides: near the left border it is right where lanes lean enough.
    assert score_image([upright(-7)], [upright(-2)], ROWS, 0).accuracy == 1
    # One prediction finds two lanes.
    assert score_image([lane], [lane, upright(310)], ROWS, 0) == ImageScores(1, -1, 0)
    # Less than 20 px, not 20; and across the lane, not along the row.
    assert score_image([upright(320)], [lane], ROWS, 0).accuracy == 0
    assert score_image([upright(319.9)], [lane], ROWS, 0).accuracy == 1
    leaning = [300 + 0.75 * (y - 160) for y in ROWS]
    assert score_image([[x + 24.9 for x in leaning]], [leaning], ROWS, 0).accuracy == 1
    assert score_image([[x + 25.1 for x in leaning]], [leaning], ROWS, 0).accuracy == 0
    # Of five lanes the worst one is left out, and one miss is forgiven; false positives are not.
    five = [upright(100 * k) for k in range(1, 6)]
    assert score_image(five[:4], five, ROWS, 0) == ImageScores(1, 0, 0)
    assert score_image(five[:3], five, ROWS, 0) == ImageScores(0.75, 0, 0.25)
    # Three lanes more than annotated, or a millisecond more than 200.
    assert score_image([lane] * 3, [lane], ROWS, 200) == ImageScores(1, 2 / 3, 0)
    for refused in (score_image([lane] * 4, [lane], ROWS, 0), score_image([lane], [lane], ROWS, 200.1)):
        assert refused == ImageScores(0, 0, 1, refused=True)
    assert score_image([], [], ROWS, 0) == ImageScores(0, 0, 0) == score_image([], [], [10], 200)
    assert score_image([], [lane, other], ROWS, 0) == ImageScores(0, 0, 1)
    assert score_image([lane], [], ROWS, 0) == ImageScores(0, 1, 0)


def write(path: Path, *lines: dict | str) -> Path:
    path.write_text('\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_bad_lines_are_named(tmp_path: Path):
    truth = {'raw_file': 'a', 'lanes': [[1, 2]], 'h_samples': [10, 20]}
    good = {'raw_file': 'a', 'lanes': [], 'run_time': 1}
    gt, pred = write(tmp_path / 'gt', truth), tmp_path / 'pred'
    for lines, message in (
        (['{"raw_file": "a"'], 'pred, line 1 is not JSON'),
        ([{'raw_file': 'a', 'lanes': []}], 'pred, line 1: expected .*"run_time"'),
        ([good, good], 'has 2 lines, but'),
        ([{**good, 'raw_file': 'b'}], 'line 1: b is not in'),
        ([{**good, 'lanes': [[1, 2, 3]]}], 'line 1: lane 0 has 3 values: expected 2'),
        ([{**good, 'lanes': [[1, None]]}], 'line 1: lane 0: expected a list of finite numbers'),
        (
            ['{"raw_file": "a", "lanes": [[1, NaN]], "run_time": 1}'],
            'line 1: lane 0: expected a list of finite numbers',
        ),
        ([{**good, 'lanes': 3}], 'line 1: lanes: expected a list'),
        ([{**good, 'run_time': 'fast'}], 'run_time: expected a finite number, got fast'),
        ([{**good, 'run_time': 10**400}], 'run_time: expected a finite number, got 10{79}$'),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_label_files(gt, write(pred, *lines))
    for faulty, message in (
        ({**truth, 'h_samples': []}, 'is empty'),
        ({**truth, 'lanes': [[1]]}, 'gt, line 1: lane 0'),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_label_files(write(gt, faulty), write(pred, good))
    # An image twice: the annotation that comes last counts, and each prediction does.
    write(gt, {**truth, 'lanes': []}, truth)
    found, _ = evaluate_label_files(gt, write(pred, good, {**good, 'lanes': [[1, 2]]}))
    assert found['accuracy'] == 1 and found['fn'] == 1 and 'before' in found['notes'][0]


def sample(number: int, pred: list[list[float]], gt: list[list[float]]) -> dict:
    lines = [np.array([(x, y) for x, y in zip(lane, ROWS) if x >= 0], float).reshape(-1, 2) for lane in [*pred, *gt]]
    lanes = Lanes(tuple(lines[: len(pred)]), np.arange(len(pred)), np.ones(len(pred)))
    annotated = {'lanes': lines[len(pred) :], 'h_samples': ROWS}
    return {'frame_id': f'clips/{number}/20', 'h_samples': ROWS, 'pred_lanes': lanes, 'eval_ann_info': annotated}


def test_the_metric_has_the_scores_of_its_file(tmp_path: Path):
    samples, lines = [], []
    for number in range(12):
        pred, gt, _ = random_image(np.random.default_rng(number))
        pred = [lane for lane in pred if sum(x >= 0 for x in lane) > 1]
        samples.append(sample(number, pred, gt))
        lines.append({'raw_file': f'clips/{number}/20.jpg', 'lanes': gt, 'h_samples': ROWS})
    metric = TuSimpleMetric(format_dir=str(tmp_path))
    metric.process(None, samples)
    scores = metric.compute_metrics(metric.results)
    files, _ = evaluate_label_files(write(tmp_path / 'gt.json', *lines), tmp_path / 'pred.json')
    f1 = 2 * (1 - files['fp']) * (1 - files['fn']) / (2 - files['fp'] - files['fn'])
    assert {key: scores[key] for key in ('accuracy', 'fp', 'fn')} == {
        key: files[key] for key in ('accuracy', 'fp', 'fn')
    }
    assert scores['f1'] == pytest.approx(f1) and 0 < scores['accuracy'] < 1
    # Without rows those of the image.
    stored = {**samples[0], 'img_paths': ['/data/clips/0/20.png']}
    assert json.loads(metric.result_text(stored['pred_lanes'], stored))['raw_file'].endswith('/20.png')
    bare = {**samples[0], 'h_samples': None}
    with pytest.raises(InputError, match='neither h_samples nor stored_hw'):
        metric.process(None, [bare])
    metric.process(None, [{**bare, 'stored_hw': [(720, 1280)]}])
    assert metric.results[-1].text == metric.results[0].text


def test_real_labels_score_themselves(samples_of, tmp_path: Path):
    lines = (samples_of('tusimple') / 'label_data_sample.json').read_text().splitlines()
    labels = [json.loads(line) for line in lines]
    gt = write(tmp_path / 'gt', *labels)
    found, _ = evaluate_label_files(gt, write(tmp_path / 'pred', *({**label, 'run_time': 9} for label in labels)))
    assert found == {'accuracy': 1, 'fp': 0, 'fn': 0}
