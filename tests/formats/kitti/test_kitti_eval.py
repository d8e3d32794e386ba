"""KITTI's evaluation: against a slow second evaluator, cases worked out by hand, and bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from slow_kitti import LOOSE, line, slow_scores, write_random_frames

from perception3d.checks import InputError
from perception3d.evaluation.frame_lists import list_frames
from perception3d.formats.kitti.evaluation.reading import OTHER, TYPES, read_frames
from perception3d.formats.kitti.evaluation.scores import (
    CLASSES,
    LEVELS,
    METRICS,
    evaluate_folders,
    flatten,
    table,
)
from perception3d.formats.kitti.files import read_objects, write_objects
from tools import evaluate as evaluate_tool

CAR = ('Car', 0, 0, (1.5, 1.6, 3.9))
"""With place and rotation: a car that counts at every difficulty where it is nearer than 27 m."""


def car(x: float = 0.0, z: float = 10.0, ry: float = 0.3, score: float | None = None, name: str = 'Car') -> str:
    return line(name, 0 if score is None else -1, 0 if score is None else -1, CAR[3], (x, 1.6, z), ry, score)


def folders(root: Path, frames: dict[str, tuple[list[str], list[str]]]) -> tuple[Path, Path]:
    """Writes label and result lines by frame."""
    for k, kind in enumerate(('gt', 'pred')):
        (root / kind).mkdir()
        for frame, lines in frames.items():
            (root / kind / f'{frame}.txt').write_text(''.join(f'{text}\n' for text in lines[k]))
    return root / 'gt', root / 'pred'


def copied(gt: Path, pred: Path) -> tuple[Path, Path]:
    """Writes the labels of gt as results with falling scores."""
    pred.mkdir(exist_ok=True)
    count = 0
    for path in sorted(gt.iterdir()):
        lines = [text for text in path.read_text().splitlines() if not text.startswith('DontCare')]
        (pred / path.name).write_text(
            ''.join(f'{text} {1 - 0.001 * (count + k):.4f}\n' for k, text in enumerate(lines))
        )
        count += len(lines)
    return gt, pred


def score(gt: Path, pred: Path, kind: str = 'car', metric: str = '3d', difficulty: str = 'easy') -> tuple[float, float]:
    found = evaluate_folders(gt, pred).scores[kind][metric][difficulty]
    return round(found['R11'], 4), round(found['R40'], 4)


@pytest.mark.parametrize(('seed', 'frames', 'objects'), [(0, 12, 9), (1, 1, 12), (2, 8, 4), (3, 25, 3), (4, 6, 15)])
def test_random_frames_score_as_the_slow_evaluator_says(tmp_path: Path, seed: int, frames: int, objects: int):
    gt, pred = write_random_frames(tmp_path, seed, frames, objects)
    fast = evaluate_folders(gt, pred, loose=True).scores
    assert fast['car']['3d']['hard']['R40'] != fast['loose']['car']['3d']['hard']['R40'] or seed == 1
    for ours, theirs in ((fast, slow_scores(gt, pred)), (fast['loose'], slow_scores(gt, pred, LOOSE))):
        for kind in CLASSES:
            for metric in METRICS:
                for difficulty in LEVELS:
                    expected = theirs[kind][metric][difficulty]
                    assert ours[kind][metric][difficulty] == pytest.approx(expected, abs=1e-9), (kind, metric)


def test_random_frames_distinguish_the_metrics(tmp_path: Path):
    """Otherwise the comparison with the slow evaluator would prove little."""
    scores = evaluate_folders(*write_random_frames(tmp_path, 5, 60, 12)).scores
    values = [scores[kind][m][d]['R40'] for kind in CLASSES for m in METRICS for d in LEVELS]
    assert len(set(values)) > 30
    assert all(0 < value < 100 for value in values)


def many_cars(count: int) -> list[str]:
    return [car(x=3.0 * (k % 5) - 6, z=8 + 5.0 * (k // 5 % 3), ry=0.1 * k) for k in range(count)]


def test_ground_truth_against_itself_is_perfect_from_41_objects_on(tmp_path: Path):
    lines = many_cars(41)
    gt, pred = copied(
        folders(tmp_path, {f'{k:06d}': (lines[k * 10 : k * 10 + 10], []) for k in range(5)})[0], tmp_path / 'pred'
    )
    for metric in METRICS:
        assert score(gt, pred, metric=metric) == (100, 100)


def test_ten_perfect_objects_score_what_the_official_tool_says(tmp_path: Path):
    gt, pred = copied(folders(tmp_path, {'000007': (many_cars(10), [])})[0], tmp_path / 'pred')
    for metric in METRICS:
        assert score(gt, pred, metric=metric) == (27.2727, 22.5)
    text = table(evaluate_folders(gt, pred))
    assert 'car easy (10)' in text
    assert 'never detected, so AP is 0: pedestrian, cyclist' in text


def test_labels_without_an_object_to_score_get_a_note(tmp_path: Path):
    gt, pred = folders(tmp_path, {'000000': ([car(0, name='DontCare')], [car(5, score=0.5)])})
    assert 'the labels hold no object to score (car, pedestrian, cyclist)' in table(evaluate_folders(gt, pred))


def test_a_class_that_is_never_detected_scores_zero(tmp_path: Path):
    walker = line('Pedestrian', 0, 0, (1.8, 0.6, 0.8), (0, 1.6, 10), 0.0)
    gt, pred = folders(tmp_path, {'000000': ([walker, car(5)], [car(5, score=0.5)])})
    scores = evaluate_folders(gt, pred).scores
    assert all(scores['pedestrian'][m][d] == {'R11': 0, 'R40': 0} for m in METRICS for d in LEVELS)
    assert scores['car']['3d']['easy']['R11'] > 0


def test_a_class_whose_boxes_all_begin_left_of_the_image_is_not_scored_in_2d(tmp_path: Path):
    """The official tool takes such boxes for missing ones."""
    labels = [car(-4.4, 5.0)]
    assert float(labels[0].split()[4]) < 0
    gt, pred = copied(folders(tmp_path, {'000000': (labels, [])})[0], tmp_path / 'pred')
    assert score(gt, pred, metric='2d') == score(gt, pred, metric='aos') == (0, 0)
    assert score(gt, pred, metric='bev')[0] > 0


def one_and_false(tmp_path: Path, labels: list[str], results: list[str], metric: str) -> float:
    """R11 of a car whose detection has the score 0.5; the first of 11 precisions is all there is."""
    gt, pred = folders(tmp_path, {'000000': ([car(5), *labels], [car(5, score=0.5), *results])})
    return score(gt, pred, metric=metric)[0]


def test_a_false_detection_halves_precision_and_a_later_one_does_not(tmp_path: Path):
    for name, confidence, expected in (('before', 0.9, 4.5455), ('after', 0.4, 9.0909)):
        (tmp_path / name).mkdir()
        assert one_and_false(tmp_path / name, [], [car(-5, score=confidence)], '3d') == expected


def test_dontcare_regions_forgive_detections_in_the_image_only(tmp_path: Path):
    false = car(-5, score=0.9)
    box = ' '.join(false.split()[4:8])
    region = f'DontCare -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10'
    for metric, expected in (('2d', 9.0909), ('bev', 4.5455), ('3d', 4.5455)):
        (tmp_path / metric).mkdir()
        assert one_and_false(tmp_path / metric, [region], [false], metric) == expected


def test_a_dontcare_region_must_hold_more_than_the_threshold_of_the_detection(tmp_path: Path):
    false = car(-5, score=0.9)
    x0, y0, x1, y1 = map(float, false.split()[4:8])
    for share, expected in ((0.69, 4.5455), (0.71, 9.0909)):
        (tmp_path / str(share)).mkdir()
        box = f'{x0:.2f} {y0:.2f} {x0 + share * (x1 - x0):.2f} {y1 + 500:.2f}'
        region = f'DontCare -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10'
        assert one_and_false(tmp_path / str(share), [region], [false], '2d') == expected


def test_two_dimensional_results_are_forgiven_on_the_ground_as_the_official_tool_does(tmp_path: Path):
    """A detection without a 3D box lies on the DontCare regions' place, with their size of -1 x -1 m."""
    flat = car(-5, score=0.9).split()
    flat[8:15] = ['-1', '-1', '-1', '-1000', '-1000', '-1000', '-10']
    region = 'DontCare -1 -1 -10 0 0 10 10 -1 -1 -1 -1000 -1000 -1000 -10'
    for metric, expected in (('2d', 4.5455), ('bev', 9.0909), ('3d', 4.5455)):
        (tmp_path / metric).mkdir()
        assert one_and_false(tmp_path / metric, [region], [' '.join(flat)], metric) == expected


@pytest.mark.parametrize(('name', 'expected'), [('Van', 9.0909), ('vAN', 9.0909), ('Truck', 4.5455), ('Misc', 4.5455)])
def test_a_neighbouring_class_absorbs_a_detection(tmp_path: Path, name: str, expected: float):
    assert one_and_false(tmp_path, [car(-5, name=name)], [car(-5, score=0.9)], '3d') == expected


def test_an_object_too_hard_for_the_difficulty_absorbs_a_detection(tmp_path: Path):
    hard = car(-5).replace('Car 0 0', 'Car 0.2 1')
    gt, pred = folders(tmp_path, {'000000': ([car(5), hard], [car(5, score=0.5), car(-5, score=0.9)])})
    assert score(gt, pred, difficulty='easy')[0] == 9.0909
    # At moderate both count: the first threshold reaches recall 1/2, the second recall 1.
    assert score(gt, pred, difficulty='moderate') == (9.0909, 2.5)
    assert evaluate_folders(gt, pred).objects['car'] == (1, 2, 2)


def test_a_low_detection_of_another_class_takes_an_object_that_nothing_else_takes(tmp_path: Path):
    """Height is tested before the class: a low cyclist on a car's place makes it neither found nor missed."""
    low = car(0, 10, score=0.9, name='Cyclist').split()
    low[5], low[7] = '180.00', '190.00'
    labels = [car(5), car(0)]
    gt, pred = folders(tmp_path, {'000000': (labels, [car(5, score=0.5), ' '.join(low)])})
    assert score(gt, pred)[0] == 9.0909
    # With a true detection of lower score: where recall is sought the better score wins, so only one is found.
    (tmp_path / 'with').mkdir()
    both = [car(5, score=0.5), ' '.join(low), car(0, score=0.3)]
    assert score(*folders(tmp_path / 'with', {'000000': (labels, both)}))[1] == 0
    (tmp_path / 'without').mkdir()
    assert score(*folders(tmp_path / 'without', {'000000': (labels, [both[0], both[2]])}))[1] == 2.5


def test_of_equal_detections_one_is_true(tmp_path: Path):
    assert one_and_false(tmp_path, [], [car(5, score=0.5)], '3d') == 4.5455


@pytest.mark.parametrize('turn', [0, 1, 2, 3])
def test_equal_boxes_overlap_entirely_at_right_angles_too(tmp_path: Path, turn: int):
    lines = [car(2.0 * k, 10 + k, turn * np.pi / 2) for k in range(5)]
    gt, pred = copied(folders(tmp_path, {'000000': (lines, [])})[0], tmp_path / 'pred')
    assert score(gt, pred, metric='bev') == score(gt, pred) == (18.1818, 10)


def test_empty_frames_count_and_frames_without_a_result_file_do_not(tmp_path: Path):
    gt, pred = folders(tmp_path, {'000000': ([car()], [car(score=0.5)]), '000001': ([car()], []), '000002': ([], [])})
    assert evaluate_folders(gt, pred).objects['car'] == (2, 2, 2)
    (pred / '000001.txt').unlink()
    result = evaluate_folders(gt, pred)
    assert result.objects['car'] == (1, 1, 1)
    assert (result.frames, result.detections) == (2, 1)


def test_label_files_without_result_files_are_reported(tmp_path: Path, capsys):
    gt, pred = folders(tmp_path, {f'{k:06d}': ([car()], [car(score=0.5)]) for k in range(4)})
    out = tmp_path / 'metrics.json'
    command = ['kitti', '--gt', str(gt), '--pred', str(pred), '--out', str(out)]
    evaluate_tool.main(command)
    assert 'no result file' not in capsys.readouterr().out and 'notes' not in json.loads(out.read_text())
    for count, frame, words in ((1, '000003', '1 label file has'), (2, '000001', '2 label files have')):
        (pred / f'{frame}.txt').unlink()
        evaluate_tool.main(command)
        note = f'{words} no result file: those frames are not scored'
        assert f'note: {note}' in capsys.readouterr().out.splitlines()
        scores = json.loads(out.read_text())
        assert scores.pop('notes') == [note]
        assert scores == evaluate_folders(gt, pred).scores
        assert evaluate_folders(gt, pred).unscored == count
    # Whoever names the frames has left the others out on purpose.
    assert evaluate_folders(gt, pred, frames=['000000']).unscored == 0


def test_frames_without_any_detection_score_zero(tmp_path: Path):
    result = evaluate_folders(*folders(tmp_path, {'000000': ([car()], []), '000001': ([], [])}))
    assert set(flatten(result.scores).values()) == {0.0}
    assert result.undetected == list(CLASSES)


def test_orientation_is_not_scored_if_any_detection_has_none(tmp_path: Path):
    lines = [car(score=0.5), car(5, score=0.5, name='Misc').split()]
    lines[1][3] = '-10'
    gt, pred = folders(tmp_path, {'000000': ([car()], [lines[0], ' '.join(lines[1])])})
    result = evaluate_folders(gt, pred)
    assert result.scores['car']['aos']['easy'] == {'R11': None, 'R40': None}
    assert result.scores['car']['2d']['easy']['R11'] > 0
    assert not any(key.startswith('aos') for key in flatten(result.scores))
    assert 'no AOS' in table(result)


def test_orientation_similarity_of_a_turned_box(tmp_path: Path):
    turned = car(score=0.5).split()
    turned[3] = f'{float(turned[3]) + np.pi / 2:.6f}'
    gt, pred = folders(tmp_path, {'000000': ([car()], [' '.join(turned)])})
    assert score(gt, pred, metric='aos') == (4.5455, 0)
    assert score(gt, pred, metric='2d') == (9.0909, 0)


def test_a_threshold_without_true_or_false_detections_is_passed_over(tmp_path: Path):
    """There the official tool divides zero by zero."""
    hidden = car(0).replace('Car 0 0', 'Car 0 3')
    low = car(0.05, score=0.9).split()
    low[5], low[7] = '180.00', '190.00'
    # The hidden car takes the low box at first, and the other one where it looks for the largest overlap.
    gt, pred = folders(tmp_path, {'000000': ([hidden, car(0.1)], [' '.join(low), car(0, score=0.5)])})
    assert score(gt, pred) == (0, 0)


def test_objects_of_exactly_the_least_height_count_unless_set_otherwise(tmp_path: Path):
    label = car().split()
    label[5], label[7] = '100.00', '140.00'
    gt, pred = copied(folders(tmp_path, {'000000': ([' '.join(label)], [])})[0], tmp_path / 'pred')
    assert evaluate_folders(gt, pred).objects['car'] == (1, 1, 1)
    assert evaluate_folders(gt, pred, above_min_height=True).objects['car'] == (0, 1, 1)
    for above in (False, True):
        expected = slow_scores(gt, pred, above=above)['car']['3d']['easy']
        assert evaluate_folders(gt, pred, above_min_height=above).scores['car']['3d']['easy'] == pytest.approx(expected)


def test_files_written_with_two_decimals_score_the_same(tmp_path: Path):
    gt, pred = write_random_frames(tmp_path, 6, 10, 8)
    again = tmp_path / 'again'
    for path in pred.iterdir():
        write_objects(again / path.name, read_objects(path, scored=True))
    assert evaluate_folders(gt, again).scores == evaluate_folders(gt, pred).scores


def test_numbers_are_read_as_python_reads_them(tmp_path: Path):
    """Plain ones, exponents, very long ones; tabs, Windows line ends, blank lines, no last line end."""
    numbers = '-1 -1 0.1 1e1 2.50 30.7 +4 .5 3. 0.123456789012345678 -0 1E-3 123456789.123456 7 0.30000000000000004'
    text = f'Car {numbers}\r\n\n  cAr\t{numbers}\n Person_sitting_down {numbers}'
    (tmp_path / 'a.txt').write_bytes(text.encode())
    (tmp_path / 'b.txt').write_text('')
    found = read_frames(tmp_path, ['b', 'a'], scored=True)
    assert found.starts.tolist() == [0, 0, 3]
    assert found.codes.tolist() == [TYPES.index('car'), TYPES.index('car'), OTHER]
    assert (found.numbers == np.array(numbers.split(), float)).all()
    # A form feed is white space too, but only the slow reader knows.
    (tmp_path / 'a.txt').write_bytes(text.replace('\t', '\f ').encode().replace(b'\f ', b' \x1f'))
    slow = read_frames(tmp_path, ['b', 'a'], scored=True)
    assert (slow.numbers == found.numbers).all()
    assert slow.codes.tolist() == found.codes.tolist()
    assert slow.starts.tolist() == found.starts.tolist()


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        ('Car 1 2 3', r'pred/000001\.txt, line 2: 4 columns, a result line has 16'),
        (car(), r'000001\.txt, line 2: 15 columns, a result line has 16'),
        (car(score=0.5) + ' 7', r'000001\.txt, line 2: 17 columns, a result line has 16'),
        (car(score=0.5).replace(' 1.60', ' high', 1), "line 2: 'high' is not a number"),
        (car(score=0.5).replace(' 1.60', ' nan', 1), 'line 2: nan is not finite'),
        (car(score=0.5).replace(' 1.60', ' -1e999', 1), 'line 2: -1e999 is not finite'),
        ('Voit\u00fcre' + car(score=0.5)[3:], 'is not a text file'),
    ],
)
def test_bad_result_lines_are_named(tmp_path: Path, damage: str, words: str):
    gt, pred = folders(tmp_path, {f'{k:06d}': ([car()], [car(score=0.5)]) for k in range(3)})
    with (pred / '000001.txt').open('a', encoding='latin-1') as file:
        file.write(f'{damage}\n')
    with pytest.raises(InputError, match=words):
        evaluate_folders(gt, pred)


def test_bad_label_lines_are_named(tmp_path: Path):
    gt, pred = folders(tmp_path, {'000000': ([car(), car(score=0.5)], [])})
    with pytest.raises(InputError, match=r'gt/000000\.txt, line 2: 16 columns, a label line has 15'):
        evaluate_folders(gt, pred)


def test_bad_folders_are_named(tmp_path: Path):
    frames = {f'{k:06d}': ([car()], [car(score=0.5)]) for k in range(6)}
    gt, pred = folders(tmp_path, frames)
    for frame in list(frames)[1:]:
        (gt / f'{frame}.txt').unlink()
    with pytest.raises(InputError, match=r'gt has no labels of frame 000001, 000002, 000003 and 2 more \(5 of 6'):
        evaluate_folders(gt, pred)
    with pytest.raises(InputError, match='nowhere does not exist'):
        evaluate_folders(gt, tmp_path / 'nowhere')
    with pytest.raises(InputError, match='nowhere does not exist'):
        evaluate_folders(tmp_path / 'nowhere', pred)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='empty is empty: write one .txt a frame'):
        evaluate_folders(gt, tmp_path / 'empty')


def test_other_files_among_the_results_are_named(tmp_path: Path):
    pred = folders(tmp_path, {'000000': ([], [])})[1]
    (pred / 'summary.json').write_text('{}')
    (pred / 'plot').mkdir()
    with pytest.raises(InputError, match='pred holds plot, summary.json: not result files'):
        list_frames(pred)
    # What tools/infer.py writes next to a result file is no obstacle.
    (pred / 'summary.json').unlink()
    (pred / 'plot').rmdir()
    for suffix in ('.png', '.json'):
        (pred / f'000000{suffix}').write_text('')
    assert list_frames(pred) == ['000000']
    (tmp_path / 'official' / 'data').mkdir(parents=True)
    with pytest.raises(InputError, match=r'give .*official/data'):
        list_frames(tmp_path / 'official')


def test_a_frame_with_two_result_files_is_named(tmp_path: Path):
    pred = folders(tmp_path, {'000012': ([], []), '12': ([], [])})[1]
    with pytest.raises(InputError, match=r'frame 12 twice: 000012.txt and 12.txt'):
        list_frames(pred)


def test_the_command_writes_the_agreed_json_and_prints_a_table(tmp_path: Path, capsys):
    gt, pred = write_random_frames(tmp_path, 7, 6, 8)
    out = tmp_path / 'metrics.json'
    assert evaluate_tool.main(['kitti', '--gt', str(gt), '--pred', str(pred), '--out', str(out)]) == 0
    scores = json.loads(out.read_text())
    assert list(scores) == ['car', 'pedestrian', 'cyclist']
    for kind in scores.values():
        assert list(kind) == ['2d', 'aos', 'bev', '3d']
        for metric in kind.values():
            assert {name: set(average) for name, average in metric.items()} == dict.fromkeys(LEVELS, {'R11', 'R40'})
    assert scores == evaluate_folders(gt, pred).scores
    printed = capsys.readouterr().out
    row = next(text.split() for text in printed.splitlines() if text.startswith('car         3d'))
    expected = [scores['car']['3d'][difficulty][points] for points in ('R40', 'R11') for difficulty in LEVELS]
    assert [float(word) for word in row[3:]] == pytest.approx(expected, abs=0.006)

    assert evaluate_tool.main(['kitti', '--gt', str(gt), '--pred', str(pred), '--out', str(out), '--loose']) == 0
    loose = json.loads(out.read_text())
    assert {key: loose[key] for key in scores} == scores
    assert loose['loose']['car'].keys() == scores['car'].keys()
    assert 'not official' in capsys.readouterr().out


def test_the_flat_scores_hold_the_mean_over_classes(tmp_path: Path):
    scores = evaluate_folders(*write_random_frames(tmp_path, 8, 10, 8), loose=True).scores
    flat = flatten(scores)
    values = [scores[kind]['3d']['moderate']['R40'] for kind in CLASSES]
    assert [flat[f'3d/{kind}/moderate/R40'] for kind in CLASSES] == values
    assert flat['3d/mAP/moderate/R40'] == pytest.approx(sum(values) / 3)
    assert flat['loose/bev/car/hard/R11'] == scores['loose']['car']['bev']['hard']['R11']
    two = flatten(scores, ['car', 'cyclist'])
    assert two['3d/mAP/moderate/R40'] == pytest.approx((values[0] + values[2]) / 2)
    assert '3d/pedestrian/moderate/R40' not in two


def test_scoring_files_imports_no_torch():
    scores = 'perception3d.formats.kitti.evaluation.scores'
    code = f'import sys, {scores}; sys.exit("torch" in sys.modules or "mmengine" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
