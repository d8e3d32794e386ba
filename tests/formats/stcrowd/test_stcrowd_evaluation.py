"""Scores of STCrowd's result files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmdet3d.structures import LiDARInstance3DBoxes
from stcrowd_tree import write_tree

from perception3d.checks import InputError
from perception3d.evaluation.crowd_options import make_options
from perception3d.evaluation.crowd_report import flatten
from perception3d.files import write_pickle
from perception3d.formats.stcrowd.dataset import STCrowdDataset
from perception3d.formats.stcrowd.evaluation.folders import evaluate_folders
from perception3d.formats.stcrowd.evaluation.metric import STCrowdMetric
from perception3d.formats.stcrowd.evaluation.truth import Reading
from perception3d.formats.stcrowd.files import Frame, Person, Sequence, read_sequence, write_sequence
from perception3d.formats.stcrowd.info import create_infos
from perception3d.structures.boxes import Boxes
from perception3d.structures.tracks import Tracks
from tools import evaluate

_SIZE = (0.6, 0.6, 1.7)
_QUIET = Reading(progress=False)


def _person(track_id, x, y, score=None, size=_SIZE, **more):
    return Person(track_id, (float(x), float(y), -1.0), size, 0.3, None if score else 0, score, **more)


def _walk(name, scored=False, with_ids=False, frames=3):
    """Three people who walk, one who sits, one behind the sensor; results find all and one who is not there."""
    out = []
    for k in range(frames):
        own = [
            _person(1, 8 + k / 2, 0),
            _person(2, 8 + k / 2, 1),
            _person(3, 20, -5),
            _person(4, 6, 3, size=(0.6, 0.6, 1.0)),
            _person(5, -6, 3),
        ]
        if scored:
            own = [
                replace(p, score=0.9 - 0.1 * i, track_id=p.track_id if with_ids else None) for i, p in enumerate(own)
            ]
            own.append(_person(9 if with_ids else None, 15, 8, 0.2))
        out.append(Frame(k, f'pcd/{name}/{k}.bin', tuple(own)))
    return Sequence(name, tuple(out))


@pytest.fixture
def folders(tmp_path):
    for name in ('12', '13', '14'):
        write_sequence(tmp_path / 'gt' / 'anno' / f'{name}.json', _walk(name))
    for name in ('12', '13'):
        write_sequence(tmp_path / 'pred' / f'{name}.json', _walk(name, scored=True))
    return tmp_path / 'gt', tmp_path / 'pred'


def test_people_who_sit_or_stand_behind_are_neither_hits_nor_false(folders):
    scores, table = evaluate_folders(*folders, make_options(samples=20), _QUIET)
    for reading in ('3d', 'bev'):
        part = scores[reading]
        # The false ones have the lowest score: nuScenes takes the last precision, 18 of 24, at recall 1 alone.
        assert list(part['ap'].values()) == pytest.approx([100 * (1 - 0.25 / 0.9 / 90)] * 4)
        assert part['ar'] == {
            'overall': pytest.approx(100),
            'occlusion': {'0': pytest.approx(100), '1': None, '2': None},
        }
        assert part['recall']['by_points'] == {'15-30': None, '30-100': None, '100+': None}
        assert part['duplicate_rate'] == part['merge_rate'] == 0
    assert scores['counting_error'] == 1 and 'tracking' not in scores
    assert scores['interval']['3d/ap/mean'] == pytest.approx([scores['3d']['ap']['mean']] * 2)
    assert scores['notes'] == ['1 annotated sequences have no result file and are not scored']
    assert '6 frames of 2 sequences, 18 people (12 more are ignored)' in table and 'mAP' in table


def test_sitting_people_count_where_they_are_not_ignored(folders):
    scores, _ = evaluate_folders(*folders, make_options('crowdquery', samples=0), _QUIET)
    assert scores['bev']['ar']['overall'] == pytest.approx(100)
    few = make_options(samples=0, ignore_sitting=False)
    assert '24 people (6 more' in evaluate_folders(*folders, few, _QUIET)[1]


def test_items_with_ids_are_tracks_and_a_folder_of_tracks_comes_first(folders):
    gt, pred = folders
    write_sequence(pred / '12.json', _walk('12', scored=True, with_ids=True))
    tracking = evaluate_folders(gt, pred, make_options(samples=0), _QUIET)[0]['tracking']
    # Sequence 13 has no tracks: 9 of 18 boxes are missed, 3 are false.
    assert tracking['1.0']['mota'] == pytest.approx(100 * (1 - 12 / 18)) and tracking['1.0']['mt'] == 50
    for name in ('12', '13'):
        sequence = _walk(name, scored=True, with_ids=True)
        real = [replace(frame, people=frame.people[:3]) for frame in sequence.frames]
        write_sequence(pred / 'tracks' / f'{name}.json', replace(sequence, frames=tuple(real)))
    tracking = evaluate_folders(gt, pred, make_options(samples=0), _QUIET)[0]['tracking']
    assert tracking['1.0'] == {'mota': 100, 'idf1': 100, 'mt': 100, 'ml': 0, 'amota': 100}


def test_a_frame_without_results_has_no_predictions(folders):
    gt, pred = folders
    write_sequence(pred / '13.json', Sequence('13', ()))
    scores, _ = evaluate_folders(gt, pred, make_options(samples=0), _QUIET)
    assert scores['3d']['ar']['overall'] == pytest.approx(50)
    assert scores['notes'][0] == '3 of 6 frames have no results: they count as without predictions'


def test_an_info_file_knows_points_and_whom_to_ignore_for_few(folders, tmp_path):
    entries = []
    for frame in _walk('12').frames:
        boxes = [
            dict(
                name='person',
                bbox_3d=[*p.center_m[:2], p.center_m[2] - p.size_m[2] / 2, *p.size_m, 0.0, np.nan, np.nan],
                track_id=p.track_id,
                occlusion=p.occlusion,
                num_lidar_pts=points,
            )
            for p, points in zip(frame.people, (14, 15, 100, 50, 50))
        ]
        entries.append(
            dict(
                frame_id=f'012_{frame.frame_id:06d}',
                scene_token='12',
                labelled=True,
                instances=boxes[1:3],
                ignored=[*boxes[:1], *boxes[3:]],
            )
        )
    path = tmp_path / 'infos.pkl'
    write_pickle(path, {'metainfo': {}, 'data_list': entries})
    (folders[1] / '13.json').unlink()
    scores, table = evaluate_folders(path, folders[1], make_options(samples=0), _QUIET)
    assert scores['3d']['recall']['by_points'] == {
        '15-30': pytest.approx(100),
        '30-100': None,
        '100+': pytest.approx(100),
    }
    assert '6 people (9 more are ignored)' in table
    all_points = make_options(samples=0, ignore_few_points=False)
    assert '9 people (6 more' in evaluate_folders(path, folders[1], all_points, _QUIET)[1]


def test_folders_that_cannot_be_scored_are_named(folders, tmp_path):
    gt, pred = folders
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='empty holds no .json files: give --pred'):
        evaluate_folders(gt, tmp_path / 'empty')
    write_sequence(pred / '99.json', _walk('99', scored=True))
    with pytest.raises(InputError, match='results of sequence 099, which .*gt.* does not annotate'):
        evaluate_folders(gt, pred, reading=_QUIET)
    (pred / '99.json').unlink()
    write_sequence(pred / '12.json', _walk('12', scored=True, frames=4))
    with pytest.raises(InputError, match='12.json has frame 3, which is not annotated'):
        evaluate_folders(gt, pred, reading=_QUIET)
    write_sequence(pred / '012.json', _walk('12', scored=True))
    with pytest.raises(InputError, match='sequence 12 twice: 012.json and 12.json'):
        evaluate_folders(gt, pred, reading=_QUIET)
    (pred / '012.json').unlink()
    write_sequence(pred / '12.json', _walk('12'))
    with pytest.raises(InputError, match='12.json.*score'):
        evaluate_folders(gt, pred, reading=_QUIET)
    with pytest.raises(InputError, match='is not an info file of STCrowd'):
        write_pickle(tmp_path / 'other.pkl', {'data_list': [{}]})
        write_sequence(pred / '12.json', _walk('12', scored=True))
        evaluate_folders(tmp_path / 'other.pkl', pred)


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    root = write_tree(tmp_path_factory.mktemp('stcrowd'), -1)
    create_infos(root, -1, progress=False)
    return root


def _tested(tree, metric, with_tracks=True):
    """The samples of a data set with noisy predictions, and tracks of them."""
    rng = np.random.default_rng(0)
    samples = []
    frames = STCrowdDataset(str(tree), 'perception3d_infos_train.pkl', pipeline=[], test_mode=True)
    metric.dataset_meta = frames.metainfo
    for sample in frames:
        truth = sample['eval_ann_info']
        boxes = np.concatenate([truth['gt_bboxes_3d'].tensor.numpy(), truth['ignored_bboxes_3d'][:2]]).astype(
            np.float32
        )
        boxes[:, :2] += rng.normal(0, 0.3, (len(boxes), 2))
        boxes[:, 7:] = 0
        scores = rng.uniform(0.2, 1, len(boxes)).astype(np.float32)
        sample['pred_instances_3d'] = dict(
            bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9),
            scores_3d=torch.from_numpy(scores),
            labels_3d=torch.zeros(len(boxes), dtype=torch.long),
        )
        if with_tracks:
            ids = np.arange(len(boxes)) + 3
            sample['pred_tracks'] = Tracks(Boxes(boxes, np.zeros(len(boxes)), scores), ids, classes=('person',))
        samples.append(sample)
    return samples


def test_the_metric_scores_as_the_command_scores_its_files(tree, tmp_path):
    metric = STCrowdMetric(settings=dict(samples=0), format_dir=str(tmp_path / 'out'))
    samples = _tested(tree, metric)
    metric.process(None, samples[::-1])
    flat = metric.evaluate(len(samples))
    # The yaw turns as in the annotations.
    yaw = read_sequence(tmp_path / 'out' / '3.json', scored=True).frames[0].people[0].yaw_rad
    assert yaw == pytest.approx(-samples[0]['pred_instances_3d']['bboxes_3d'].tensor[0, 6].item())
    assert 0 < flat['stcrowd/map'] < 100 and flat['stcrowd/mota'] > 0 and flat['stcrowd/recall@points_30-100'] > 0
    out = tmp_path / 'metrics.json'
    for gt in (tree / 'perception3d_infos_train.pkl', tree / 'anno', tree):
        assert (
            evaluate.main(
                ['stcrowd', '--gt', str(gt), '--pred', str(tmp_path / 'out'), '--out', str(out), '--samples', '0']
            )
            == 0
        )
        scores = json.loads(out.read_text())
        again = flatten(scores, make_options())
        assert again == pytest.approx({name.removeprefix('stcrowd/'): value for name, value in flat.items()}, abs=1e-4)


@pytest.mark.parametrize(
    ('compat', 'settings'),
    [('crowdquery', {}), (None, dict(ignore_sitting=False)), (None, dict(ignore_few_points=False))],
)
def test_the_metric_ignores_whom_the_command_ignores(tree, tmp_path, compat, settings):
    metric = STCrowdMetric(compat, settings | dict(samples=0), format_dir=str(tmp_path / 'out'))
    samples = _tested(tree, metric)
    truth = samples[0]['eval_ann_info']
    assert len(truth['ignored_reasons']) == len(truth['ignored_bboxes_3d']) > 0
    metric.process(None, samples)
    flat = metric.evaluate(len(samples))
    options = make_options(compat, **settings, samples=0)
    scores, text = evaluate_folders(tree / 'perception3d_infos_train.pkl', tmp_path / 'out', options, _QUIET)
    assert flatten(scores, options) == pytest.approx(
        {name.removeprefix('stcrowd/'): value for name, value in flat.items()}, abs=1e-4
    )
    counted = [int(words.split(' people')[0].split()[-1]) for words in (text,)]
    strict = evaluate_folders(tree / 'anno', tmp_path / 'out', make_options(samples=0), _QUIET)[1]
    assert counted[0] > int(strict.split(' people')[0].split()[-1])


def test_the_metric_writes_alone_and_names_what_is_missing(tree, tmp_path):
    metric = STCrowdMetric(format_dir=str(tmp_path / 'out'), format_only=True)
    samples = _tested(tree, metric, with_tracks=False)
    for sample in samples:
        del sample['eval_ann_info']
    metric.process(None, samples)
    assert metric.evaluate(len(samples)) == {}
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['12.json', '3.json']
    scored = STCrowdMetric()
    with pytest.raises(InputError, match='frame 003_000000 has no labels'):
        scored.process(None, samples)
    with pytest.raises(InputError, match='carry no scene_token'):
        scored.process(None, [{**samples[0], 'scene_token': None}])
    with pytest.raises(InputError, match="frame_id is '7': expected SEQUENCE_NUMBER"):
        scored.process(None, [{**samples[0], 'frame_id': '7'}])
    twice = STCrowdMetric(format_dir=str(tmp_path / 'out'), format_only=True)
    twice.process(None, samples[:1] * 2)
    with pytest.raises(InputError, match='frame 003_000000 was predicted more than once'):
        twice.evaluate(2)
