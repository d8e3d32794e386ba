"""LiDAR-frame AP of result files: the metric's numbers, the command, what is left out, and bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_lidar_ap import CLASSES, random_tables, run, samples_of

from perception3d.checks import InputError
from perception3d.files import write_pickle
from perception3d.formats.custom_boxes.evaluation.ap import LidarBoxes
from perception3d.formats.custom_boxes.evaluation.folders import evaluate_files
from perception3d.formats.custom_boxes.files import write_labels
from tools import evaluate as evaluate_tool

LIMITS = dict(Car=0.5, Pedestrian=0.3, Cyclist=0.2)
OTHER = 'Tram'


def write_truth(folder: Path, truth: LidarBoxes) -> Path:
    """Label files of the frames; objects with label -1 are of a class that nobody asks for."""
    for frame in range(len(truth.starts) - 1):
        rows = slice(*truth.starts[frame : frame + 2])
        names = [CLASSES[label] if label >= 0 else OTHER for label in truth.labels[rows]]
        write_labels(folder / f'drive-{frame}.txt', truth.boxes[rows], names)
    return folder


def write_info(path: Path, truth: LidarBoxes) -> Path:
    """The info file of the same frames, and of one without labels, as tools/create_data.py custom-boxes writes it."""
    infos = [dict(frame_id='drive-unlabelled', labelled=False, instances=[])]
    for frame in range(len(truth.starts) - 1):
        rows = slice(*truth.starts[frame : frame + 2])
        boxes = [
            dict(name=CLASSES[label] if label >= 0 else OTHER, bbox_3d=box.tolist(), bbox_label_3d=int(label))
            for box, label in zip(truth.boxes[rows], truth.labels[rows], strict=True)
        ]
        infos.append(dict(frame_id=f'drive-{frame}', labelled=True, instances=boxes))
    categories = {name: label for label, name in enumerate(CLASSES)}
    write_pickle(path, dict(metainfo=dict(categories=categories, dataset='lidar'), data_list=infos))
    return path


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Path, dict[str, float]]:
    """Label files, the result files that the metric wrote, and its scores."""
    truth, found = random_tables(3)
    gt, pred = write_truth(tmp_path / 'gt', truth), tmp_path / 'pred'
    write_info(tmp_path / 'infos.pkl', truth)
    samples = samples_of(truth, found)
    scores = run(samples, iou_thresholds=LIMITS, range_bins_m=[(0, 30), (30, None)], format_dir=str(pred))
    assert len(list(pred.iterdir())) == 12
    return gt, pred, {key.removeprefix('lidar/'): value for key, value in scores.items()}


@pytest.mark.parametrize('info', [False, True])
def test_the_command_gives_the_metrics_numbers(scored, tmp_path: Path, capsys, info: bool):
    gt, pred, expected = scored
    truth = tmp_path / 'infos.pkl' if info else gt
    out = tmp_path / 'metrics.json'
    command = ['lidar', '--gt', str(truth), '--pred', str(pred), '--out', str(out), '--ranges', '0-30', '30-']
    command += ['--iou', *(f'{name}={limit}' for name, limit in LIMITS.items())]
    assert evaluate_tool.main([*command, *([] if info else ['--classes', *CLASSES])]) == 0
    scores = json.loads(out.read_text())
    notes = scores.pop('notes')
    assert scores == pytest.approx(expected, abs=1e-6)
    assert len(notes) == 1 and re.fullmatch(r'\d+ objects of other classes are left out: [\w ,]+', notes[0])
    printed = capsys.readouterr().out.splitlines()
    assert f'note: {notes[0]}' in printed
    row = next(line.split() for line in printed if line.startswith('Pedestrian'))
    assert float(row[2]) == pytest.approx(expected['3d/Pedestrian'], abs=0.006)


def test_every_class_of_the_files_is_scored_by_default(scored):
    gt, pred, expected = scored
    scores, text = evaluate_files(gt, pred, 0.5)
    assert scores['3d/Car'] == pytest.approx(expected['3d/Car'], abs=1e-6)
    assert scores[f'3d/{OTHER}'] == 0 and 'notes' not in scores
    assert evaluate_files(gt, pred, 0.5, classes=['Car'])[0]['3d/mAP'] == scores['3d/Car']
    with (pred / 'drive-0.txt').open('a') as file:
        file.write('1 2 0 4 2 1.5 0 Forklift 0.9\n')
    scores, text = evaluate_files(gt, pred, 0.5)
    assert scores['notes'] == ['no objects, so no AP: Forklift'] and '3d/Forklift' not in scores
    assert 'note: no objects, so no AP: Forklift' in text


def test_the_truth_against_itself_is_perfect_and_empty_files_count(tmp_path: Path):
    boxes = np.array([[5, 1, -1, 4, 2, 1.5, 0.3], [12, -4, -1, 4, 2, 1.5, -2]])
    for frame in ('a', 'b'):
        write_labels(tmp_path / 'gt' / f'{frame}.txt', boxes, ['Car', 'Car'])
    write_labels(tmp_path / 'pred' / 'a.txt', boxes, ['Car', 'Car'], [0.9, 0.8])
    scores, text = evaluate_files(tmp_path / 'gt', tmp_path / 'pred', 0.7)
    note = '1 label file has no result file: those frames are not scored'
    assert scores.pop('notes') == [note] and f'note: {note}' in text
    assert scores == pytest.approx(dict.fromkeys(scores, 100.0)) and '3d/Car' in scores
    write_labels(tmp_path / 'pred' / 'b.txt', boxes[:0], [], [])
    scores, text = evaluate_files(tmp_path / 'gt', tmp_path / 'pred', 0.7)
    # Half of the objects at precision 1: 20 of 40 recalls.
    assert scores['3d/Car'] == scores['bev/Car'] == 50 and 'notes' not in scores
    assert text.startswith('LiDAR: 2 frames')


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('1 2 0 4 2 1.5 0 Car', r'8 fields, expected 9; a line is: x y z dx dy dz heading class score'),
        ('1 2 0 4 2 1.5 zero Car 0.5', "'zero' is not a number"),
        ('1 2 0 4 2 1.5 0 Car nan', 'nan is not finite'),
        ('1 2 0 4 0 1.5 0 Car 0.5', 'sizes dx dy dz of 4 0 1.5, expected more than 0'),
        ('1 2 0 4 2 1.5 0 Pedestrain 0.5', "unknown class 'Pedestrain': did you mean 'Pedestrian'"),
    ],
)
def test_a_bad_line_is_named(scored, tmp_path: Path, line: str, words: str):
    path = scored[1] / 'drive-2.txt'
    path.write_text(f'1 2 0 4 2 1.5 0 Car 0.5\n\n{line}\n')
    with pytest.raises(InputError, match=f'drive-2.txt, line 3: {words}') as error:
        evaluate_files(tmp_path / 'infos.pkl', scored[1])
    assert '\n' not in str(error.value)


def test_bad_folders_infos_and_settings_are_named(scored, tmp_path: Path):
    gt, pred, _ = scored
    with pytest.raises(
        InputError, match='nowhere does not exist: give an info file of tools/create_data.py custom-boxes'
    ):
        evaluate_files(tmp_path / 'nowhere', pred)
    write_pickle(tmp_path / 'kitti.pkl', dict(metainfo=dict(dataset='kitti'), data_list=[]))
    with pytest.raises(InputError, match='kitti.pkl is not an info file of custom-boxes'):
        evaluate_files(tmp_path / 'kitti.pkl', pred)
    for entries in (None, [[[1]]], [dict(frame_id='a')]):
        meta = dict(dataset='lidar', categories=dict.fromkeys(CLASSES, 0))
        write_pickle(tmp_path / 'odd.pkl', dict(metainfo=meta, data_list=entries))
        with pytest.raises(InputError, match='odd.pkl: data_list is not a list of labelled frames'):
            evaluate_files(tmp_path / 'odd.pkl', pred)
    with pytest.raises(InputError, match="unknown class 'Cars': did you mean 'Car'"):
        evaluate_files(gt, pred, classes=['Cars'])
    for iou, words in ((['Car=a'], '--iou takes one number'), (['0.5', '0.7'], '--iou takes one number')):
        with pytest.raises(InputError, match=words):
            evaluate_tool.main(['lidar', '--gt', str(gt), '--pred', str(pred), '--iou', *iou])
    for text, words in (('30', '--ranges takes LOW-HIGH'), ('50-30', 'range_bins_m holds')):
        with pytest.raises(InputError, match=words):
            evaluate_tool.main(['lidar', '--gt', str(gt), '--pred', str(pred), '--ranges', text])
    write_labels(pred / 'drive-unlabelled.txt', np.zeros((0, 7)), [], [])
    with pytest.raises(InputError, match='infos.pkl: frame drive-unlabelled has no labels'):
        evaluate_files(tmp_path / 'infos.pkl', pred)
    with pytest.raises(InputError, match=r'gt has no labels of frame drive-unlabelled \(1 of 13 frames\)'):
        evaluate_files(gt, pred)


def test_scoring_files_imports_no_torch():
    code = 'import sys, perception3d.formats.custom_boxes.evaluation.folders as _; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_neither_objects_nor_detections(tmp_path: Path):
    for folder in ('gt', 'pred'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'a.txt').touch()
    scores, text = evaluate_files(tmp_path / 'gt', tmp_path / 'pred')
    assert scores == {'notes': ['neither objects nor detections: nothing is scored']}
    assert 'note: neither objects nor detections' in text
