"""The nuScenes metric: equal to the devkit's DetectionEval, and usable on any set of samples."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from free_port import free_port
from mmdet3d.structures import LiDARInstance3DBoxes
from nuscenes.eval.common.loaders import load_prediction
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes_tree import HandmadeTree
from score_share import score_share
from torch import multiprocessing

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.files import read_pickle
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.formats.nuscenes.evaluation.metric import NuScenesDetectionMetric, attribute_name
from perception3d.formats.nuscenes.evaluation.scores import evaluate_submission, official_config
from perception3d.formats.nuscenes.files import open_tables, samples_of_split
from perception3d.formats.nuscenes.info.build import create_infos
from tools import evaluate as evaluate_tool

CLASSES = MultiFrameNuScenesDataset.METAINFO['classes']


def predictions(root: Path, split: str, noise_m: float = 0.0, extra: int = 0, seed: int = 0) -> list[dict]:
    """Data samples as a model gives them: ground truth, moved by noise, with false boxes around it."""
    rng = np.random.default_rng(seed)
    samples = []
    for info in read_pickle(root / f'perception3d_infos_{split}.pkl')['data_list']:
        kept = [box for box in info['instances'] if box['num_lidar_pts']]
        boxes = np.array([[*box['bbox_3d'], *np.nan_to_num(box['velocity'])] for box in kept]).reshape(-1, 9)
        boxes[:, :2] += rng.normal(size=(len(boxes), 2)) * noise_m
        boxes[:, 6:] += rng.normal(size=(len(boxes), 3)) * noise_m / 5
        false = rng.uniform([-60, -60, -2, 1, 1, 1, -3, -5, -5], [60, 60, 2, 5, 3, 2, 3, 5, 5], (extra, 9))
        boxes = np.concatenate([boxes, false])
        labels = np.array([box['bbox_label_3d'] for box in kept] + list(rng.integers(0, 10, extra)), np.int64)
        instances = dict(
            bboxes_3d=LiDARInstance3DBoxes(torch.from_numpy(boxes).float(), box_dim=9, origin=(0.5, 0.5, 0.5)),
            labels_3d=torch.from_numpy(labels),
            scores_3d=torch.from_numpy(rng.uniform(0.1, 1, len(boxes))).float(),
        )
        metas = dict(
            token=info['token'],
            ego_from_lidar=info['lidar_points']['lidar2ego'],
            global_from_ego=info['ego2global'],
        )
        samples.append(dict(pred_instances_3d=instances, sample_idx=info['sample_idx'], **metas))
    return samples


def score(root: Path, samples: list[dict], version: str = 'v1.0-hand', **kwargs) -> dict[str, float]:
    metric = NuScenesDetectionMetric(str(root), **kwargs)
    metric.dataset_meta = dict(classes=CLASSES, version=version)
    for start in range(0, len(samples), 2):
        metric.process({}, samples[start : start + 2])
    return metric.evaluate(len(samples))


def test_ground_truth_as_prediction_is_perfect(nuscenes_tree: Path):
    scores = score(nuscenes_tree, predictions(nuscenes_tree, 'hand_val'))
    for name in ('car', 'pedestrian', 'bicycle'):
        assert scores[f'nuscenes/AP/{name}'] == pytest.approx(1)
        assert scores[f'nuscenes/AP@2m/{name}'] == pytest.approx(1)
        assert scores[f'nuscenes/ATE/{name}'] < 1e-3
        assert scores[f'nuscenes/AOE/{name}'] < 1e-3
        assert scores[f'nuscenes/ASE/{name}'] < 1e-3
    # The pedestrians of the tree have no known velocity; the devkit's error is then 1.
    assert [round(scores[f'nuscenes/AVE/{name}'], 3) for name in ('car', 'pedestrian', 'bicycle')] == [0, 1, 0]
    assert scores['nuscenes/AAE/car'] == 0
    assert scores['nuscenes/AP@2m/present'] == pytest.approx(1)
    assert scores['nuscenes/mAP'] == pytest.approx(0.3)
    assert all(isinstance(value, float) and not math.isnan(value) for value in scores.values())


@pytest.mark.parametrize(
    ('version', 'scenes', 'split'),
    [('v1.0-hand', ('scene-a', 'scene-b'), 'hand_val'), ('v1.0-mini', ('scene-0061', 'scene-0103'), 'mini_val')],
)
def test_scores_equal_the_official_evaluation(tmp_path: Path, version: str, scenes: tuple[str, ...], split: str):
    """On a split of one's own and on an official one, with noisy boxes and false alarms."""
    root = HandmadeTree(tmp_path / 'tree', version=version, scenes=scenes).write({'hand_val': [scenes[1]]})
    create_infos(root, progress=False)
    prefix = tmp_path / 'out' / 'results'
    ours = score(root, predictions(root, split, 0.6, 60), version, jsonfile_prefix=str(prefix))

    nusc = open_tables(root, version)
    official = DetectionEval(nusc, official_config(), f'{prefix}_nusc.json', split, str(tmp_path), verbose=False)
    metrics, _ = official.evaluate()
    theirs = metrics.serialize()
    assert 0.02 < theirs['mean_ap'] < 0.25
    assert ours['nuscenes/mAP'] == theirs['mean_ap']
    assert ours['nuscenes/NDS'] == theirs['nd_score']
    for short, name in dict(
        mATE='trans_err', mASE='scale_err', mAOE='orient_err', mAVE='vel_err', mAAE='attr_err'
    ).items():
        assert ours[f'nuscenes/{short}'] == theirs['tp_errors'][name]
    for name in CLASSES:
        assert ours[f'nuscenes/AP/{name}'] == theirs['mean_dist_aps'][name]
        for distance in (0.5, 1.0, 2.0, 4.0):
            assert ours[f'nuscenes/AP@{distance:g}m/{name}'] == theirs['label_aps'][name][distance]
    for name in ('car', 'pedestrian'):
        assert ours[f'nuscenes/ATE/{name}'] == theirs['label_tp_errors'][name]['trans_err']


def test_two_processes_give_the_scores_of_one(nuscenes_tree: Path, tmp_path: Path):
    samples = predictions(nuscenes_tree, 'hand_val', 0.6, 60)
    torch.save(samples, tmp_path / 'samples.pt')
    multiprocessing.spawn(score_share, (free_port(), str(nuscenes_tree), str(tmp_path)), nprocs=2)
    together = json.loads((tmp_path / 'scores.json').read_text())
    alone = score(nuscenes_tree, samples)
    assert together == pytest.approx(alone, nan_ok=True)
    assert 0 < alone['nuscenes/AP@2m/car'] < 1


def test_a_subset_of_a_split_is_scored_alone(nuscenes_tree: Path):
    samples = predictions(nuscenes_tree, 'hand_val')
    assert score(nuscenes_tree, samples[2:3])['nuscenes/AP@4m/car'] == pytest.approx(1)
    nothing = {key: value[:0] for key, value in samples[0]['pred_instances_3d'].items()}
    half = [samples[1], {**samples[0], 'pred_instances_3d': nothing}]
    assert 0.4 < score(nuscenes_tree, half)['nuscenes/AP@4m/car'] < 0.5


def test_no_predictions_score_zero(nuscenes_tree: Path):
    samples = predictions(nuscenes_tree, 'hand_val')
    for sample in samples:
        found = sample['pred_instances_3d']
        sample['pred_instances_3d'] = {key: value[:0] for key, value in found.items()}
    scores = score(nuscenes_tree, samples)
    assert scores['nuscenes/mAP'] == scores['nuscenes/NDS'] == 0
    assert scores['nuscenes/mATE'] == 1


def test_samples_without_annotations_are_scored(nuscenes_tree: Path, tmp_path: Path):
    """An empty frame among others: nothing to find there, and boxes in it are false alarms."""
    root = Path(shutil.copytree(nuscenes_tree, tmp_path / 'tree'))
    table = root / 'v1.0-hand' / 'sample_annotation.json'
    samples = predictions(root, 'hand_val')
    rows = [row for row in json.loads(table.read_text()) if row['sample_token'] != samples[0]['token']]
    table.write_text(json.dumps(rows))
    assert score(root, samples[:1])['nuscenes/mAP'] == 0
    assert 0 < score(root, samples)['nuscenes/AP/car'] < 1


def test_the_submission_is_valid_and_within_the_benchmarks_limits(nuscenes_tree: Path, tmp_path: Path):
    samples = predictions(nuscenes_tree, 'hand_val', 0.1, 900)
    samples[0]['pred_instances_3d']['bboxes_3d'].tensor[:, 7:] = math.nan
    assert score(nuscenes_tree, samples, format_only=True, format_dir=str(tmp_path)) == {}
    boxes, meta = load_prediction(str(tmp_path / 'results_nusc.json'), 500, DetectionBox)
    assert meta == dict(use_camera=True, use_lidar=False, use_radar=False, use_map=False, use_external=False)
    assert set(boxes.sample_tokens) == set(samples_of_split(open_tables(nuscenes_tree), 'hand_val'))
    for sample in samples:
        kept = boxes[sample['token']]
        assert 300 < len(kept) <= 500
        centre = np.array(sample['global_from_ego'])[:2, 3]
        for box in kept:
            distance = np.linalg.norm(np.array(box.translation[:2]) - centre)
            assert distance < official_config().class_range[box.detection_name]
            assert not np.isnan(box.velocity).any()
    scores = [box.detection_score for box in boxes[samples[0]['token']]]
    assert scores == sorted(scores, reverse=True)


def test_a_sample_that_was_predicted_twice_is_refused(nuscenes_tree: Path, tmp_path: Path):
    samples = predictions(nuscenes_tree, 'hand_val')
    with pytest.raises(InputError, match=f'sample {samples[0]["token"]} was predicted more than once'):
        score(nuscenes_tree, [*samples, samples[0]], jsonfile_prefix=str(tmp_path / 'results'))
    assert not list(tmp_path.iterdir())


def test_format_only_needs_a_place(tmp_path: Path):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='file is a file, but a folder is needed'):
        NuScenesDetectionMetric('x', format_only=True, jsonfile_prefix=str(tmp_path / 'file' / 'results'))

    with pytest.raises(InputError, match='format_only needs format_dir, the folder'):
        NuScenesDetectionMetric('x', format_only=True)
    with pytest.raises(InputError, match='jsonfile_prefix is an older name of format_dir: give format_dir alone'):
        NuScenesDetectionMetric('x', format_dir=str(tmp_path), jsonfile_prefix=str(tmp_path / 'results'))


def test_poses_come_from_the_info_file_when_a_pipeline_packs_only_the_index(nuscenes_tree: Path):
    samples = predictions(nuscenes_tree, 'hand_val', 0.3, 10)
    expected = score(nuscenes_tree, samples)
    bare = [{key: sample[key] for key in ('pred_instances_3d', 'sample_idx')} for sample in samples]
    assert score(nuscenes_tree, bare, ann_file='perception3d_infos_hand_val.pkl') == expected
    with pytest.raises(InputError, match='pack them as metas'):
        score(nuscenes_tree, bare)


def test_a_set_without_annotations_cannot_be_scored(tmp_path: Path):
    tree = HandmadeTree(tmp_path, version='v1.0-test', scenes=('scene-0077',), keyframes=2, annotated=False)
    root = tree.write()
    create_infos(root, progress=False)
    with pytest.raises(InputError, match='v1.0-test has no annotations.*--format-only'):
        score(root, predictions(root, 'test', extra=3), 'v1.0-test')
    prefix = str(tmp_path / 'results')
    assert score(root, predictions(root, 'test', extra=3), 'v1.0-test', format_only=True, jsonfile_prefix=prefix) == {}


@pytest.mark.parametrize(
    ('name', 'slow', 'fast'),
    [
        ('car', 'vehicle.parked', 'vehicle.moving'),
        ('bus', 'vehicle.stopped', 'vehicle.moving'),
        ('trailer', 'vehicle.parked', 'vehicle.moving'),
        ('pedestrian', 'pedestrian.standing', 'pedestrian.moving'),
        ('motorcycle', 'cycle.without_rider', 'cycle.with_rider'),
        ('traffic_cone', '', ''),
        ('barrier', '', ''),
    ],
)
def test_attributes_follow_the_speed(name: str, slow: str, fast: str):
    assert (attribute_name(name, 0.1), attribute_name(name, 0.3)) == (slow, fast)


@pytest.fixture(scope='module')
def submission(nuscenes_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp('submission') / 'results'
    samples = predictions(nuscenes_tree, 'hand_val', 0.4, 20)
    score(nuscenes_tree, samples, format_only=True, jsonfile_prefix=str(prefix))
    return Path(f'{prefix}_nusc.json')


def test_the_command_gives_the_metrics_numbers(nuscenes_tree: Path, submission: Path, tmp_path: Path, capsys):
    out = tmp_path / 'metrics.json'
    arguments = ['nuscenes', '--gt', str(nuscenes_tree), '--pred', str(submission), '--out', str(out)]
    assert evaluate_tool.main([*arguments, '--split', 'hand_val']) == 0
    scores = json.loads(out.read_text())
    expected = score(nuscenes_tree, predictions(nuscenes_tree, 'hand_val', 0.4, 20))
    assert {f'nuscenes/{key}': value for key, value in scores.items()} == expected
    assert f'NDS: {scores["NDS"]:.4f}' in capsys.readouterr().out
    evaluate_tool.main(arguments)
    assert json.loads(out.read_text()) == scores


def without_results(content: dict) -> dict:
    return {'meta': content['meta']}


def foreign_token(content: dict) -> dict:
    content['results']['nobody'] = []
    return content


def too_many(content: dict) -> dict:
    boxes = next(iter(content['results'].values()))
    boxes.extend(boxes[:1] * 501)
    return content


def lacking_key(content: dict) -> dict:
    del next(iter(content['results'].values()))[0]['velocity']
    return content


def unknown_class(content: dict) -> dict:
    next(iter(content['results'].values()))[0]['detection_name'] = 'tram'
    return content


def lacking_sample(content: dict) -> dict:
    content['results'].popitem()
    return content


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (without_results, 'is not a nuScenes submission'),
        (foreign_token, 'sample nobody, which is not in the tables'),
        (too_many, 'at most 500'),
        (lacking_key, 'box without velocity'),
        (unknown_class, "unknown class 'tram'"),
        (lacking_sample, 'lacks 1 of 5 samples of hand_val'),
    ],
)
def test_bad_submissions_get_one_line(nuscenes_tree: Path, submission: Path, tmp_path: Path, damage, words: str):
    bad = tmp_path / 'bad.json'
    bad.write_text(json.dumps(damage(json.loads(submission.read_text()))))
    with pytest.raises(InputError, match=words):
        evaluate_submission(nuscenes_tree, bad, split='hand_val')


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    ('field', 'value', 'words'),
    [
        ('attribute_name', 'car.moving', "attribute_name is 'car.moving', expected an empty text, or one of"),
        ('attribute_name', None, 'attribute_name is None'),
        ('sample_token', 'another', "sample_token is 'another', expected the sample that the box is listed in"),
        ('detection_name', ['car'], r"unknown class \['car'\]"),
        ('detection_score', NAN, 'detection_score is nan, expected a finite number'),
        ('detection_score', '0.9', "detection_score is '0.9'"),
        ('detection_score', None, 'detection_score is None'),
        ('translation', [NAN, 0, 0], r'translation is \[nan, 0, 0\], expected 3 finite numbers'),
        ('translation', [1, 2], r'translation is \[1, 2\]'),
        ('size', [0, 1, 1], r'size is \[0, 1, 1\], expected 3 finite numbers above 0'),
        ('size', ['1', '1', '1'], r"size is \['1', '1', '1'\]"),
        ('size', [1, INF, 1], r'size is \[1, inf, 1\]'),
        ('rotation', [1, 0, 0], r'rotation is \[1, 0, 0\], expected 4 finite numbers, not all 0'),
        ('rotation', [0, 0, 0, 0], r'rotation is \[0, 0, 0, 0\]'),
        ('velocity', None, 'velocity is None, expected 2 numbers, finite or NaN'),
        ('velocity', [[1, 2], 3], r'velocity is \[\[1, 2\], 3\]'),
        ('ego_translation', [1, NAN, 0], r'ego_translation is \[1, nan, 0\]'),
        ('num_pts', 'many', "num_pts is 'many', expected a finite number"),
    ],
)
def test_a_value_that_the_benchmark_refuses_is_named(nuscenes_tree, submission, tmp_path, field, value, words):
    content = json.loads(submission.read_text())
    token, boxes = next(iter(content['results'].items()))
    boxes[3][field] = value
    bad = tmp_path / 'bad.json'
    bad.write_text(json.dumps(content))
    place = f'bad.json has a box of the .*sample {token}' if field == 'detection_name' else f'sample {token}, box 3: '
    with pytest.raises(InputError, match=words) as raised:
        evaluate_submission(nuscenes_tree, bad)
    assert re.search(place, str(raised.value)) and '\n' not in str(raised.value)


@pytest.mark.parametrize('boxes', [None, {}, [None]])
def test_boxes_that_are_no_list_of_dicts_are_named(nuscenes_tree, submission, tmp_path, boxes):
    content = json.loads(submission.read_text())
    token = next(iter(content['results']))
    content['results'][token] = boxes
    (tmp_path / 'bad.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf'bad\.json, sample {token}: expected a list of boxes, each a dict, got '):
        evaluate_submission(nuscenes_tree, tmp_path / 'bad.json')


def test_what_the_devkit_takes_is_scored(nuscenes_tree: Path, submission: Path, tmp_path: Path):
    """A velocity of NaN, whole numbers and the keys that a box may have."""
    content = json.loads(submission.read_text())
    for boxes in content['results'].values():
        for box in boxes:
            box.update(ego_translation=[0, 0, 0], num_pts=-1, extra='kept by nobody')
        boxes[0].update(velocity=[NAN, NAN], detection_score=1, rotation=[1, 0, 0, 0])
    path = tmp_path / 'odd.json'
    path.write_text(json.dumps(content))
    boxes, _ = load_prediction(str(path), 500, DetectionBox)
    scores, _ = evaluate_submission(nuscenes_tree, path)
    assert len(boxes) == 5 and 0 < scores['mAP'] < 1


def test_unknown_splits_and_missing_files_are_named(nuscenes_tree: Path, submission: Path, tmp_path: Path):
    with pytest.raises(InputError, match="unknown split of v1.0-hand 'hand_vall': did you mean 'hand_val'"):
        evaluate_submission(nuscenes_tree, submission, split='hand_vall')
    with pytest.raises(InputError, match='gone.json does not exist'):
        evaluate_submission(nuscenes_tree, tmp_path / 'gone.json')


def test_the_real_keyframe_is_scored_though_its_split_is_not_whole(nuscenes_sample: Path, tmp_path: Path):
    root = tmp_path / 'tree'
    root.mkdir()
    for part in nuscenes_sample.iterdir():
        (root / part.name).symlink_to(part)
    create_infos(root, progress=False)
    scores = score(root, predictions(root, 'mini_train'), 'v1.0-mini')
    assert scores['nuscenes/AP@2m/present'] == pytest.approx(1)
    assert scores['nuscenes/AP@2m/car'] == pytest.approx(1)
    assert scores['nuscenes/ATE/pedestrian'] < 1e-3


def test_a_submission_says_which_sensors_its_config_uses(tmp_path: Path):
    for name, seen in (
        ('center_point_pillar_crowd_stride2_512x512_20e_nuscenes.py', {'lidar'}),
        ('fast_bev_tiny_96x352_8e_sim.py', {'camera'}),
    ):
        evaluator = dict(load_config(name).test_evaluator)
        metric = evaluator.pop('type')(**evaluator, format_only=True, format_dir=str(tmp_path))
        metric.dataset_meta = {'classes': ['car']}
        metric.compute_metrics([('token', [])])
        meta = json.loads((tmp_path / 'results_nusc.json').read_text())['meta']
        assert {key for key, used in meta.items() if used} == {f'use_{sensor}' for sensor in seen}
    with pytest.raises(InputError, match='sensors must be some of camera, lidar'):
        NuScenesDetectionMetric(str(tmp_path), sensors=('sonar',))
