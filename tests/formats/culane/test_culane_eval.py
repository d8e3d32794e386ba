"""CULane's scores of folders, by lists and categories; the metric scores results as if they were written and read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from official_culane import SIZE_WH, lane, write_tree

from perception3d.checks import InputError
from perception3d.evaluation.lane_f1 import LaneRule, count_lanes
from perception3d.evaluation.lane_metric import LaneF1Metric, LaneMetric
from perception3d.formats.culane.evaluation.folders import EvaluationOptions, evaluate_folders
from perception3d.formats.culane.evaluation.metric import LaneCULaneMetric
from perception3d.formats.culane.files import CATEGORIES, read_lines
from perception3d.structures.lanes import Lanes
from tools import evaluate


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('lanes')
    write_tree(folder, 20, 3, edge_cases=True)
    return folder


def counts_of(tree: Path, names: list[str], threshold: float) -> list[int]:
    total = np.zeros(3, int)
    for name in names:
        gt, pred = (read_lines(tree / side / f'{name[1:-4]}.lines.txt') for side in ('gt', 'pred'))
        total += count_lanes(gt, pred, LaneRule(SIZE_WH, (threshold,))).at(0)
    return total.tolist()


def test_lists_and_thresholds_in_one_pass(tree: Path, tmp_path: Path):
    out = tmp_path / 'metrics.json'
    words = ['culane', '--gt', str(tree / 'gt'), '--pred', str(tree / 'pred'), '--out', str(out)]
    assert evaluate.main([*words, '--lists', str(tree / 'lists'), '--iou', '0.3', '0.5']) == 0
    scores = json.loads(out.read_text())
    lists = {name: (tree / f'lists/test{k}_{name}.txt').read_text().split() for k, name in enumerate(CATEGORIES)}
    assert list(scores['categories']) == list(CATEGORIES)
    for threshold in (0.3, 0.5):
        for name, images in lists.items():
            found = scores['categories_by_iou'][str(threshold)][name]
            assert [found[key] for key in ('tp', 'fp', 'fn')] == counts_of(tree, images, threshold)
        total = scores[str(threshold)]
        images = [image for members in lists.values() for image in members]
        assert [total[key] for key in ('tp', 'fp', 'fn')] == counts_of(tree, images, threshold)
        assert total['precision'] == total['tp'] / (total['tp'] + total['fp'])
    assert scores['categories'] == scores['categories_by_iou']['0.5'] and total['tp'] > 20
    # One list alone; an image that it names twice counts twice, and blank lines are no images.
    some = tmp_path / 'some.txt'
    some.write_text(f'{lists["normal"][0]}\n\n{lists["normal"][0]}\n/not/there.jpg\r\n')
    alone, text = evaluate_folders(tree / 'gt', tree / 'pred', EvaluationOptions(list_file=some), progress=False)
    assert alone.keys() == {'0.5', 'notes'} and len(alone['notes']) == 2 and '3 images' in text
    assert [alone['0.5'][key] for key in ('tp', 'fp', 'fn')] == counts_of(tree, lists['normal'][:1] * 2, 0.5)


def test_images_are_those_of_the_test_list_or_all_that_are_annotated(tree: Path):
    everything = evaluate_folders(tree / 'gt', tree / 'pred', progress=False)[0]['0.5']
    annotated = [f'/{path.relative_to(tree / "gt").as_posix()[:-10]}.jpg' for path in (tree / 'gt').rglob('*.txt')]
    assert [everything[key] for key in ('tp', 'fp', 'fn')] == counts_of(tree, annotated, 0.5)
    assert everything['tp'] + everything['fn'] == sum(len(read_lines(path)) for path in (tree / 'gt').rglob('*.txt'))
    # The annotations as a prediction of themselves, of the images of a test list.
    (tree / 'gt/list').mkdir()
    (tree / 'gt/list/test.txt').write_text(annotated[0])
    found, _ = evaluate_folders(tree / 'gt', tree / 'gt', EvaluationOptions(size_wh=(3280, 590)), progress=False)
    assert (
        found['0.5']['tp'] + found['0.5']['fn']
        == counts_of(tree, annotated[:1], 0.5)[0] + counts_of(tree, annotated[:1], 0.5)[2]
    )
    (tree / 'gt/list/test.txt').unlink()


def test_bad_input_is_named(tree: Path, tmp_path: Path):
    for options, message in (
        (EvaluationOptions(list_file=tmp_path / 'none.txt'), 'none.txt does not exist'),
        (EvaluationOptions(lists=tree), 'has no test0_normal.txt'),
        (EvaluationOptions(thresholds=(1.0,)), 'below 1'),
        (EvaluationOptions(size_wh=(0, 590)), '0x590'),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_folders(tree / 'gt', tree / 'pred', options, progress=False)
    (tmp_path / 'empty.txt').write_text('\n')
    with pytest.raises(InputError, match='empty'):
        evaluate_folders(tree / 'gt', tree / 'pred', EvaluationOptions(list_file=tmp_path / 'empty.txt'))
    with pytest.raises(InputError, match='holds no .lines.txt'):
        evaluate_folders(tmp_path, tree / 'pred')
    with pytest.raises(InputError, match='nowhere does not exist'):
        evaluate_folders(tree / 'gt', tmp_path / 'nowhere')
    with pytest.raises(InputError, match='has no result file of any of the .*: give --pred the folder that the paths'):
        evaluate_folders(tree / 'gt', tmp_path, progress=False)


def sample(frame: str, pred: list, gt: list | None, category: str | None = None) -> dict:
    lanes = Lanes(tuple(pred), np.arange(len(pred)), np.ones(len(pred)))
    annotated = {} if gt is None else {'eval_ann_info': {'lanes': gt, **({'category': category} if category else {})}}
    return {'frame_id': frame, 'pred_lanes': lanes, 'stored_hw': [SIZE_WH[::-1]], **annotated}


def test_the_metric_has_the_scores_of_its_files(tmp_path: Path):
    rng = np.random.default_rng(1)
    samples = []
    for number, category in enumerate(['normal', 'night', 'cross', 'normal', 'noline']):
        gt = [] if category == 'cross' else [lane(rng) for _ in range(3)] + [lane(rng)[:1]]
        pred = [lane(rng)] if category in ('cross', 'noline') else [each + [6.123456789, 0] for each in gt[:2]]
        samples.append(sample(f'driver/a.MP4/{number:05d}', pred, gt, category))
        path = tmp_path / 'gt' / f'driver/a.MP4/{number:05d}.lines.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(''.join(' '.join(map(repr, each.ravel().tolist())) + '\n' for each in gt))
    metric = LaneCULaneMetric(format_dir=str(tmp_path / 'pred'), thresholds=[0.5, 0.75])
    metric.process(None, samples)
    scores = metric.compute_metrics(metric.results)
    files, _ = evaluate_folders(tmp_path / 'gt', tmp_path / 'pred', EvaluationOptions((0.5, 0.75)), progress=False)
    assert scores['f1'] == files['0.5']['f1'] and scores['recall'] == files['0.5']['recall'] > 0
    assert scores['f1@0.75'] == (files['0.75']['f1'] or 0)
    # Crossroads have no lanes: what is reported of them is a number of false positives.
    assert scores['fp/cross'] == 1 and 'f1/cross' not in scores and scores['f1/noline'] == 0
    assert scores['f1/normal'] == pytest.approx(2 * 4 / (4 + 8))
    again = LaneCULaneMetric(format_dir=str(tmp_path / 'only'), format_only=True)
    again.process(None, [sample(each['frame_id'], list(each['pred_lanes'].polylines), None) for each in samples])
    assert again.compute_metrics(again.results) == {}
    written = {path.relative_to(tmp_path / 'only'): path.read_bytes() for path in (tmp_path / 'only').rglob('*.txt')}
    assert len(written) == 5 and all((tmp_path / 'pred' / name).read_bytes() == text for name, text in written.items())


def test_a_metric_must_say_how_it_reads_writes_and_scores():
    with pytest.raises(TypeError, match='abstract .*result_text.*score.*summarise.*write_submission'):
        LaneMetric()
    with pytest.raises(TypeError, match='abstract .*parse_result'):
        LaneF1Metric()


def test_the_metric_names_what_samples_lack(tmp_path: Path):
    metric = LaneCULaneMetric()
    for faulty, message in (
        ({'pred_lanes': 1}, 'carry no frame_id'),
        (sample('a', [], None), 'image a has no annotated lanes'),
        ({**sample('a', [], []), 'stored_hw': None}, 'carry no stored_hw'),
        (sample('../a', [], []), 'lead out of its folder'),
    ):
        with pytest.raises(InputError, match=message):
            metric.process(None, [faulty])
    metric.process(None, [sample('a', [], [])] * 2)
    with pytest.raises(InputError, match='a was predicted more than once'):
        metric.compute_metrics(metric.results)
    with pytest.raises(InputError, match='format_only needs format_dir'):
        LaneCULaneMetric(format_only=True)
