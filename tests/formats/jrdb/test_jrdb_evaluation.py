"""JRDB's AP: the rules of its toolkit one by one, and the metric in the test loop; the toolkit was run by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmdet3d.structures import LiDARInstance3DBoxes

from perception3d.checks import InputError
from perception3d.files import write_bytes
from perception3d.formats.jrdb.evaluation.folders import evaluate_folders
from perception3d.formats.jrdb.evaluation.metric import JrdbMetric
from tools import evaluate

# With 41 objects and more, as many recalls as the toolkit samples.
_CROWD = 60


def _line(x, z, score=1.0, kind='Pedestrian', points=20, occluded=0, box=(100, 50, 140, 150)):
    numbers = ' '.join(f'{value}' for value in box)
    return f'{kind} 0 {occluded} {points} 0.1 {numbers} 1.7 0.6 0.6 {x} 1.0 {z} 0.0 {score}\n'


def _write(root, truth, results, sequence='hall_0', images=False):
    """Writes {frame: lines} of both."""
    for frame, lines in truth.items():
        write_bytes(root / 'gt' / sequence / f'{frame:06d}.txt', ''.join(lines).encode())
        folder = root / 'pred' / sequence / ('image_stitched' if images else '')
        write_bytes(folder / f'{frame:06d}.txt', ''.join(results.get(frame, ())).encode())


def _crowd(**more):
    """Frames of one person each, all of them found."""
    return {f: [_line(0, 10, **more)] for f in range(_CROWD)}


def _ap(root, metric='3d', overlap='0.3', sequence=None):
    part = evaluate_folders(root / 'gt', root / 'pred')[0][metric][overlap]
    return part['overall'] if sequence is None else part['sequences'][sequence]


def test_perfect_results_score_100_and_others_by_their_overlap(tmp_path):
    _write(tmp_path, _crowd(), _crowd())
    assert _ap(tmp_path, overlap='0.7') == pytest.approx(100)
    # 0.2 m beside 0.6 m: IoU 1/2, which does not exceed 0.5.
    _write(tmp_path, _crowd(), {f: [_line(0.2, 10)] for f in range(_CROWD)})
    scores = evaluate_folders(tmp_path / 'gt', tmp_path / 'pred')[0]['3d']
    assert [scores[o]['overall'] for o in ('0.3', '0.5', '0.7')] == pytest.approx([100, 0, 0])


@pytest.mark.parametrize(
    'extra, result, expected',
    [
        # An object that is ignored may be found or missed.
        (_line(5, 9, points=9), '', 100),
        (_line(5, 9, points=9), _line(5, 9), 100),
        (_line(5, 9, kind='Cyclist'), _line(5, 9), 100),
        # One of unknown points is not there: what finds it is false.
        (_line(5, 9, points=-1), _line(5, 9), 50),
        # One with 10 points counts.
        (_line(5, 9, points=10), '', 50),
        (_line(5, 9, points=10), _line(5, 9), 100),
        # 25 m count, more do not; detections alike.
        (_line(15, 20), '', 50),
        (_line(15, 20.01), '', 100),
        ('', _line(15, 20), 50),
        ('', _line(15, 20.01), 100),
        # Detections of other types are not there; names have no case.
        ('', _line(5, 9, kind='Cyclist'), 100),
        ('', _line(5, 9, kind='pedestrian'), 50),
        # A second detection of a person is false.
        ('', _line(0, 10), 50),
        # Nothing is false in a region.
        (_line(5, 9, kind='DontCare', points=-1), _line(5, 9), 100),
    ],
)
def test_rules_of_3d(tmp_path, extra, result, expected):
    truth, results = ({f: [*lines, part] for f, lines in _crowd().items()} for part in (extra, result))
    _write(tmp_path, truth, results)
    # A missed half ends the curve at recall 1/2; false ones of the same score halve precision.
    assert _ap(tmp_path) == pytest.approx(expected, abs=1.5)


@pytest.mark.parametrize(
    'extra, result, expected',
    [
        (_line(5, 9, box=(300, 50, 320, 74)), '', 100),
        (_line(5, 9, box=(300, 50, 320, 75)), '', 50),
        (_line(5, 9, box=(300, 50, 340, 150), occluded=3), '', 100),
        (_line(5, 9, box=(300, 50, 340, 150), occluded=2), '', 50),
        (_line(5, 9, box=(-1, -1, -1, -1)), '', 100),
        # It is not there, so what finds it is false; points and range do not count in the image.
        (_line(5, 9, box=(-5, 50, 35, 150)), _line(5, 9, box=(-5, 50, 35, 150)), 50),
        (_line(50, 90, points=-1, box=(300, 50, 340, 150)), '', 50),
        ('', _line(5, 9, box=(300, 50, 320, 74)), 100),
        ('', _line(5, 9, box=(-1, -1, -1, -1)), 100),
    ],
)
def test_rules_of_2d(tmp_path, extra, result, expected):
    truth, results = ({f: [*lines, part] for f, lines in _crowd().items()} for part in (extra, result))
    _write(tmp_path, truth, results, images=True)
    assert _ap(tmp_path, '2d') == pytest.approx(expected, abs=1.5)


def test_sequences_have_their_own_curves_and_one_without_truth_has_0(tmp_path):
    _write(tmp_path, _crowd(), _crowd(), 'good_0')
    _write(tmp_path, _crowd(), {}, 'missed_0')
    _write(tmp_path, {0: []}, {0: [_line(0, 10, 0.1)]}, 'empty_0')
    assert _ap(tmp_path, sequence='good_0') == pytest.approx(100)
    assert _ap(tmp_path, sequence='missed_0') == 0 and _ap(tmp_path, sequence='empty_0') == 0
    assert _ap(tmp_path) == pytest.approx(50, abs=1.5)


def test_ten_people_cannot_reach_100(tmp_path):
    # As KITTI's: ten thresholds for 41 recalls.
    _write(tmp_path, {f: [_line(0, 10)] for f in range(10)}, {f: [_line(0, 10)] for f in range(10)})
    assert _ap(tmp_path) == pytest.approx(100 * 9 / 40)


def test_the_command_writes_the_agreed_json(tmp_path, capsys):
    _write(tmp_path, _crowd(), _crowd())
    _write(tmp_path, {0: [_line(0, 10)]}, {}, 'hall_1')
    for frame in range(_CROWD):
        write_bytes(tmp_path / 'pred' / 'hall_0' / 'image_stitched' / f'{frame:06d}.txt', _line(0, 10).encode())
    out = tmp_path / 'metrics.json'
    arguments = ['jrdb', '--gt', str(tmp_path / 'gt'), '--pred', str(tmp_path / 'pred'), '--out', str(out)]
    assert evaluate.main(arguments) == 0
    scores = json.loads(out.read_text())
    assert set(scores) == {'3d', '2d', 'notes'} and set(scores['3d']) == {'0.3', '0.5', '0.7'}
    assert scores['2d']['0.7'] == {'overall': 100, 'sequences': {'hall_0': 100}}
    assert set(scores['3d']['0.3']['sequences']) == {'hall_0', 'hall_1'}
    assert 'JRDB 3D, 61 frames' in capsys.readouterr().out


def test_folders_that_cannot_be_scored_are_named(tmp_path):
    _write(tmp_path, {0: [_line(0, 10)], 1: []}, {0: [_line(0, 10)]})
    (tmp_path / 'pred' / 'hall_0' / '000001.txt').unlink()
    with pytest.raises(InputError, match='hall_0 lacks 000001.txt .1 of 2 files'):
        _ap(tmp_path)
    write_bytes(tmp_path / 'pred' / 'hall_0' / '000001.txt', b'Pedestrian 0 0\n')
    with pytest.raises(InputError, match='000001.txt, line 1: 3 columns'):
        _ap(tmp_path)
    (tmp_path / 'other').mkdir()
    with pytest.raises(InputError, match='has results of none of the sequences'):
        evaluate_folders(tmp_path / 'gt', tmp_path / 'other')


def _sample(frame, boxes, found, scores, ignored=()):
    """Boxes (x, y) in the robot's frame."""

    def full(places):
        return np.array([[x, y, -1.0, 0.6, 0.6, 1.7, 0.1] for x, y in places], np.float32).reshape(-1, 7)

    return dict(
        frame_id=f'hall_0_{frame:06d}',
        scene_token='hall_0',
        pred_instances_3d=dict(
            bboxes_3d=LiDARInstance3DBoxes(full(found)),
            scores_3d=torch.tensor(scores),
            labels_3d=torch.zeros(len(found), dtype=torch.long),
        ),
        eval_ann_info=dict(gt_bboxes_3d=LiDARInstance3DBoxes(full(boxes)), ignored_bboxes_3d=full(ignored)),
    )


def test_the_metric_scores_and_writes(tmp_path):
    metric = JrdbMetric(format_dir=str(tmp_path / 'pred'))
    samples = [_sample(f, [(10, 0)], [(10, 0), (12, 3)], [0.9, 0.95], [(12, 3)]) for f in range(_CROWD)]
    metric.process(None, samples)
    flat = metric.evaluate(_CROWD)
    assert flat == {f'jrdb/ap@{overlap}': pytest.approx(100) for overlap in (0.3, 0.5, 0.7)}
    for frame in range(_CROWD):
        lines = _line(0, 10), _line(-3, 12, points=3)
        write_bytes(tmp_path / 'gt' / 'hall_0' / f'{frame:06d}.txt', ''.join(lines).encode())
    assert _ap(tmp_path) == pytest.approx(100)
    false = JrdbMetric()
    false.process(None, [_sample(f, [(10, 0)], [(10, 0), (12, 3)], [0.9, 0.95]) for f in range(_CROWD)])
    assert false.evaluate(_CROWD)['jrdb/ap@0.3'] == pytest.approx(50)
    with pytest.raises(InputError, match='frame hall_0_000000 was predicted more than once'):
        false.process(None, samples[:1] * 2)
        false.evaluate(2)
    with pytest.raises(InputError, match='frame hall_0_000000 has no labels'):
        false.process(None, [{**samples[0], 'eval_ann_info': None}])
    with pytest.raises(InputError, match='carry no scene_token'):
        false.process(None, [{**samples[0], 'scene_token': None}])
