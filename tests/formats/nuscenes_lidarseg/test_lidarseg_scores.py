"""Scores of nuScenes-lidarseg: bit for bit those of the installed devkit, on a handmade tree and on random counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lidarseg_tree import BENCHMARK_ID, CATEGORIES, LidarsegTree
from nuscenes import NuScenes
from nuscenes.eval.lidarseg.evaluate import LidarSegEval
from nuscenes.eval.lidarseg.utils import ConfusionMatrix, LidarsegClassMapper
from nuscenes.eval.panoptic.evaluate import NuScenesPanopticEval

from perception3d.evaluation.point_iou import count_confusion
from perception3d.formats.nuscenes_lidarseg.evaluation.folders import evaluate_results
from perception3d.formats.nuscenes_lidarseg.evaluation.scores import lidarseg_scores
from perception3d.formats.nuscenes_lidarseg.files import CLASS_OF_CATEGORY, CLASSES, lidarseg_encoding
from perception3d.structures.point_labels import IGNORE
from tools import evaluate

OTHER_ORDER = {name: int(k) for name, k in zip(CATEGORIES, np.random.default_rng(3).permutation(len(CATEGORIES)))}


@pytest.fixture(scope='module', params=['released ids', 'other ids'])
def scored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, NuScenes]:
    """A tree, results for it, and the devkit's tables; with the released numbers of categories, and with others."""
    root = tmp_path_factory.mktemp('lidarseg')
    tree = LidarsegTree(root / 'tree', **({} if request.param == 'released ids' else {'index': OTHER_ORDER}))
    tree.write()
    results = tree.write_results(root / 'results')
    return tree.root, results, NuScenes(tree.version, str(tree.root), verbose=False)


def same(value: float | None, official: float) -> bool:
    """Whether two scores are the same number to the last bit; None stands for NaN."""
    return np.isnan(official) if value is None else value == official


def test_released_ids_are_mapped_as_the_sheet_says():
    table = lidarseg_encoding({name: k for k, name in enumerate(CATEGORIES)}, 'category.json')
    labels = table.labels(np.arange(32, dtype=np.uint8), 'all')
    np.testing.assert_array_equal(np.where(labels == IGNORE, 0, labels + 1), BENCHMARK_ID)
    # The built-in world writes its files by this order.
    assert tuple(CLASS_OF_CATEGORY) == CATEGORIES


def test_ids_of_any_order_are_mapped_by_name_as_the_devkit_does(scored):
    _, _, nusc = scored
    index = {row['name']: row['index'] for row in nusc.category}
    official = LidarsegClassMapper(nusc).fine_idx_2_coarse_idx_mapping
    labels = lidarseg_encoding(index, 'category.json').labels(np.arange(32, dtype=np.uint8), 'all')
    assert [0 if label == IGNORE else label + 1 for label in labels] == [official[k] for k in range(32)]


def test_semantic_scores_are_the_devkits(scored):
    root, results, nusc = scored
    official = LidarSegEval(nusc, str(results), 'mini_val').evaluate()
    found, text = evaluate_results(root, results)
    assert found['miou'] == official['miou'] and found['fwiou'] == official['freq_weighted_iou']
    assert 0.2 < found['miou'] < 0.9
    assert list(found['iou']) == list(CLASSES)
    for name, value in found['iou'].items():
        assert same(value, official['iou_per_class'][name]), name
    assert found['iou']['trailer'] is None and found['iou']['other_flat'] == 0
    assert 'trailer' in text and 'mini_val' in text


def test_panoptic_scores_are_the_devkits(scored, tmp_path: Path, capsys: pytest.CaptureFixture):
    root, results, nusc = scored
    NuScenesPanopticEval(nusc, str(results), 'mini_val', 'segmentation', 15, str(tmp_path)).evaluate()
    official = json.loads((tmp_path / 'segmentation-result.json').read_text())['segmentation']
    paths = ['--gt', str(root), '--pred', str(results), '--out', str(tmp_path / 'scores.json')]
    assert evaluate.main(['nuscenes-lidarseg', *paths, '--panoptic']) == 0
    scores = json.loads((tmp_path / 'scores.json').read_text())
    found = scores['panoptic']
    for key, name in (('pq', 'PQ'), ('sq', 'SQ'), ('rq', 'RQ'), ('miou', 'mIoU')):
        assert found[key] == official['all'][name], name
    # The devkit adds the terms of this one in the order of a set of texts.
    assert found['pq_dagger'] == pytest.approx(official['all']['PQ_dagger'], rel=1e-14)
    assert list(found['classes']) == list(CLASSES)
    for name, row in found['classes'].items():
        expected = {key.lower(): value for key, value in official[name].items()}
        assert row == expected, name
    assert 0.2 < found['pq'] < 0.9 and set(found) == {'pq', 'sq', 'rq', 'pq_dagger', 'miou', 'classes'}
    assert set(scores) == {'miou', 'fwiou', 'iou', 'panoptic'} and scores['iou']['trailer'] is None
    assert 'PQ dagger' in capsys.readouterr().out


def test_panoptic_results_alone_are_scored(scored, tmp_path: Path):
    root, results, _ = scored
    (tmp_path / 'panoptic').symlink_to(results / 'panoptic')
    assert evaluate_results(root, tmp_path, panoptic=True)[0] == {
        'panoptic': evaluate_results(root, results, panoptic=True)[0]['panoptic']
    }


def test_scores_of_random_counts_are_the_devkits():
    # Beyond 2**24 points the devkit rounds a union to float32; and the place of a term rounds a sum.
    rng = np.random.default_rng(0)
    for scale in (5, 10**4, 10**9):
        counts = rng.integers(0, scale, (17, 17)) * (rng.random((17, 17)) < 0.7)
        absent = rng.choice(16, 3, replace=False)
        counts[absent], counts[:, absent] = 0, 0
        counts[16] = 0
        official = ConfusionMatrix(17, 0)
        # The devkit's rows are annotated, ours predicted; it has ignored points first, we last.
        official.global_cm = np.roll(counts.T, 1, (0, 1))
        official.global_cm[0], official.global_cm[:, 0] = 0, 0
        found = lidarseg_scores(counts)
        assert found.miou == official.get_mean_iou() and found.fwiou == official.get_freqweighted_iou()
        np.testing.assert_array_equal(found.iou, official.get_per_class_iou()[1:])
        assert np.isnan(found.iou[absent]).all()


def test_scores_without_any_annotated_point_are_none():
    nothing = count_confusion(np.array([3, 4]), np.array([IGNORE, IGNORE]), 16)
    found = lidarseg_scores(nothing).to_json()
    assert found['miou'] is None and found['fwiou'] is None and set(found['iou'].values()) == {None}
