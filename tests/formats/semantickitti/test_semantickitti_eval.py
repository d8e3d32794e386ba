"""SemanticKITTI's scores of files, against point by point loops and the rules that surprise; bad files are named."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perception3d.apis.formats import find_command
from perception3d.checks import InputError
from perception3d.formats.semantickitti.evaluation.folders import EvaluationOptions, evaluate_folders
from perception3d.formats.semantickitti.files import CLASSES, LABEL_IDS, STUFF, THINGS, label_encoding
from perception3d.structures.point_labels import IGNORE

EVERYTHING = EvaluationOptions(by_distance=True, panoptic=True)
Labels = np.ndarray


def save(root: Path, scan: int, truth: Labels, predicted: Labels, points: np.ndarray | None = None) -> None:
    folder = root / 'sequences' / '08'
    points = np.ones((len(truth), 3)) if points is None else points
    content = {
        f'labels/{scan:06d}.label': np.asarray(truth, '<u4'),
        f'predictions/{scan:06d}.label': np.asarray(predicted, '<u4'),
        f'velodyne/{scan:06d}.bin': np.column_stack([points, np.zeros(len(points))]).astype('<f4'),
    }
    for name, array in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        array.tofile(folder / name)


def score(root: Path, options: EvaluationOptions = EVERYTHING) -> dict:
    return evaluate_folders(root, root, options, progress=False)[0]


def label_of(number: int) -> int:
    return label_encoding().label_of[int(number) & 0xFFFF]


def slow_iou(pairs: list[tuple[int, int]]) -> list[float]:
    """IoU of each class from (annotated, predicted) labels, point by point."""
    pairs = [(t, p) for t, p in pairs if t != IGNORE]
    both, either = Counter(t for t, p in pairs if t == p), Counter(label for pair in pairs for label in set(pair))
    return [both[c] / either[c] if either[c] else 0.0 for c in range(len(CLASSES))]


def slow_panoptic(scans: list[tuple[Labels, Labels]]) -> dict[str, tuple[float, float]]:
    """Segmentation and recognition quality by class, from sets of points."""
    ious: dict[int, list[float]] = {c: [] for c in range(len(CLASSES))}
    unmatched: Counter[int] = Counter()
    for truth, predicted in scans:
        scored = [i for i, number in enumerate(truth) if label_of(number) != IGNORE]
        for c in range(len(CLASSES)):
            sides = []
            for numbers in (truth, predicted):
                mine = [i for i in scored if label_of(numbers[i]) == c]
                sides.append([{i for i in mine if numbers[i] == number} for number in {numbers[i] for i in mine}])
            found = [(a, b, len(a & b) / len(a | b)) for a in sides[0] for b in sides[1]]
            matches = [match for match in found if match[2] > 0.5]
            ious[c] += [iou for _, _, iou in matches]
            for side in (0, 1):
                partners = [match[side] for match in matches]
                unmatched[c] += sum(len(segment) >= 50 and segment not in partners for segment in sides[side])
    return {
        name: (
            sum(ious[c]) / len(ious[c]) if ious[c] else 0.0,
            len(ious[c]) / (len(ious[c]) + unmatched[c] / 2) if ious[c] else 0.0,
        )
        for c, name in enumerate(CLASSES)
    }


def test_all_scores_are_those_of_slow_loops(tmp_path: Path):
    scans, pairs, rings = [], [], {ring: [] for ring in range(1, 6)}
    for scan in range(4):
        rng = np.random.default_rng(scan)
        segment = np.sort(rng.integers(0, 12, 900))
        ids = rng.choice([10, 252, 30, 40, 60, 48, 70, 0, 52, 20], 12)
        truth = (ids | rng.integers(0, 3, 12) << 16)[segment]
        # Moved borders, other numbers of objects (larger than the official tool takes), noise.
        predicted = (truth + (1 << 31))[np.clip(np.arange(900) + rng.integers(-40, 40), 0, 899)]
        noise = rng.random(900) < 0.1
        predicted[noise] = rng.choice(list(LABEL_IDS.values()), noise.sum())
        points = rng.normal(0, 15, (900, 3))
        save(tmp_path, scan, truth, predicted, points)
        scans.append((truth, predicted))
        labels = [(label_of(t), label_of(p)) for t, p in zip(truth, predicted)]
        pairs += labels
        for pair, distance in zip(labels, np.linalg.norm(points, axis=1)):
            rings.get(int(np.ceil(distance / 10)), []).append(pair)
    found = score(tmp_path)
    np.testing.assert_allclose(list(found['iou'].values()), slow_iou(pairs), rtol=1e-13)
    assert found['miou'] == pytest.approx(sum(slow_iou(pairs)) / 19) and list(found['iou']) == list(CLASSES)
    for ring, labels in rings.items():
        np.testing.assert_allclose(
            list(found['by_distance'][str(10 * ring)]['iou'].values()), slow_iou(labels), rtol=1e-13
        )
    panoptic, slow = found['panoptic'], slow_panoptic(scans)
    assert sum(rq > 0 for _, rq in slow.values()) >= 4
    for name, (sq, rq) in slow.items():
        values = panoptic['classes'][name]
        assert (values['sq'], values['rq'], values['pq']) == pytest.approx((sq, rq, sq * rq))
        assert values['iou'] == pytest.approx(found['iou'][name])
    assert panoptic['things']['pq'] == pytest.approx(np.mean([np.prod(slow[name]) for name in THINGS]))
    dagger = [np.prod(slow[name]) for name in THINGS] + [found['iou'][name] for name in STUFF]
    assert panoptic['pq_dagger'] == pytest.approx(np.mean(dagger))
    assert panoptic['stuff']['rq'] == pytest.approx(np.mean([slow[name][1] for name in STUFF]))
    # One pass for all gives what each alone gives.
    alone = score(tmp_path, EvaluationOptions())
    assert {key: found[key] for key in alone} == alone
    assert score(tmp_path, EvaluationOptions(panoptic=True))['panoptic'] == panoptic


def test_rules_that_surprise(tmp_path: Path):
    distances = [[10.0, 0, 0], [0, 9.9, 0], [0, 0, 0], [6, 8, 0], [0, 51, 0], [0, 10.5, 0]]
    save(tmp_path, 0, [10] * 6, [10, 10, 10, 11, 11, 0], np.array(distances))
    found = score(tmp_path)
    # Rings are open at both ends: of the points at 0 and 10 m none counts.
    assert [found['by_distance'][ring]['iou']['car'] for ring in ('10', '20', '30')] == pytest.approx([1, 0, 0])
    # No class predicted on an annotated point: missed, but not part of the accuracy.
    assert found['iou']['car'] == pytest.approx(0.5) and found['accuracy'] == pytest.approx(3 / 5)
    assert any(
        'points predicted as no class, which are missed: 1' in note and '000000.label' in note
        for note in found['notes']
    )
    assert any(note.startswith('neither annotated nor predicted') and 'truck' in note for note in found['notes'])
    # A lane marking on the road is a segment of the same class, as are cars that moved and that did not.
    (tmp_path / 'b').mkdir()
    save(tmp_path / 'b', 0, [40] * 50 + [60] * 50 + [10 | 7 << 16] * 50, [40] * 100 + [252 | 9 << 16] * 50)
    classes = score(tmp_path / 'b')['panoptic']['classes']
    assert classes['road'] == {'pq': 0.0, 'sq': 0.0, 'rq': 0.0, 'iou': 1.0} and classes['car']['pq'] == 1


def test_multi_scan_has_25_classes_and_takes_longer_predictions(tmp_path: Path):
    save(tmp_path, 0, [252, 10, 259, 256], [252, 252, 257, 259, 40, 40])
    with pytest.raises(InputError, match='holds 6 labels, but its scan has 4 points'):
        score(tmp_path, EvaluationOptions())
    found = score(tmp_path, EvaluationOptions(multi_scan=True))
    assert len(found['iou']) == 25 and found['iou']['moving-car'] == pytest.approx(0.5)
    assert found['iou']['moving-other-vehicle'] == pytest.approx(1)
    assert found['miou'] == pytest.approx(1.5 / 25)


@pytest.mark.parametrize('multi_scan', [False, True])
def test_a_prediction_that_is_too_short_is_named_with_the_fix(tmp_path: Path, multi_scan: bool):
    save(tmp_path, 0, [10, 40, 10], [10, 40])
    words = (
        r'predictions/000000\.label holds 2 labels, but its scan has 3 points: expected one label for each point'
        + (r' \(more may follow, of earlier scans\)' if multi_scan else '')
        + '; copy or write the file again'
    )
    with pytest.raises(InputError, match=words):
        score(tmp_path, EvaluationOptions(multi_scan=multi_scan))


def remove(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def put(path: str, numbers: list[int]) -> Callable[[Path], None]:
    return lambda folder: np.array(numbers, '<u4').tofile(folder / path)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (remove('predictions/000001.label'), r'1 of 2 annotated scans in .*labels have no prediction .*first: 000001'),
        (remove('labels/000000.label'), r'1 of 2 predicted scans in .*predictions have no labels .*first: 000000'),
        (put('predictions/000001.label', [10]), r'predictions/000001\.label holds 1 labels, but its scan has 2 points'),
        (
            put('predictions/000001.label', [10, 7]),
            r'predictions/000001\.label holds the unknown label ids 7 in 1 of 2',
        ),
        (put('predictions/000001.label', [9999, 10]), r'unknown label ids 9999 .*of which 10 is car'),
        (put('labels/000000.label', [255, 260]), r'labels/000000\.label holds the unknown label ids 260'),
        (remove('velodyne/000000.bin'), r'velodyne/000000\.bin does not exist'),
        (lambda folder: (folder / 'predictions/000000.label').write_bytes(b'123456'), r'000000\.label is truncated: 6'),
        (put('velodyne/000000.bin', [0] * 12), r'labels/000000\.label holds 2 labels, but its scan has 3 points'),
    ],
)
def test_bad_files_are_named(tmp_path: Path, spoil: Callable[[Path], None], message: str):
    for scan in range(2):
        save(tmp_path, scan, [10, 40], [10, 40])
    spoil(tmp_path / 'sequences' / '08')
    with pytest.raises(InputError, match=message):
        score(tmp_path)


def test_folders_that_hold_nothing_are_named(tmp_path: Path):
    with pytest.raises(InputError, match='sequences does not exist: give --gt'):
        score(tmp_path)
    save(tmp_path, 0, [10], [10])
    with pytest.raises(InputError, match='labels does not exist: sequence 09 has predictions, but no labels'):
        score(tmp_path, EvaluationOptions(sequences=['09']))
    with pytest.raises(InputError, match='has no folder of predictions'):
        (tmp_path / 'empty' / 'sequences').mkdir(parents=True)
        evaluate_folders(tmp_path, tmp_path / 'empty')


def test_the_command_gives_json_and_a_table(tmp_path: Path):
    save(tmp_path, 0, [10, 40], [10, 40])
    command, parser = find_command('semantickitti', 'evaluate'), argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(['--by-distance', '--panoptic', '--sequences', '08'])
    args.gt = args.pred = str(tmp_path)
    scores, table = command.run(args)
    assert list(scores) == ['miou', 'accuracy', 'iou', 'by_distance', 'panoptic', 'notes']
    assert list(scores['panoptic']) == ['pq', 'sq', 'rq', 'pq_dagger', 'miou', 'things', 'stuff', 'classes']
    assert json.loads(json.dumps(scores)) == scores and 'mean IoU' in table and 'SemanticKITTI: 1 scans' in table
