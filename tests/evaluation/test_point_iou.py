"""IoU of points by SemanticKITTI's rule, against a slow version; the metric in the test loop."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from perception3d.checks import InputError
from perception3d.evaluation.point_iou import count_confusion, kitti_iou
from perception3d.formats.semantickitti.evaluation.metric import SemanticKittiMetric
from perception3d.formats.semantickitti.files import CLASSES
from perception3d.structures.point_labels import IGNORE


def slow_scores(predicted: list[int], truth: list[int], num_classes: int) -> tuple[float, float, list[float]]:
    """Point by point: mean IoU, accuracy, IoU of each class; a label that is no class is not scored."""
    pairs = [(p, t) for p, t in zip(predicted, truth) if 0 <= t < num_classes]
    iou = []
    for c in range(num_classes):
        both = sum(p == c and t == c for p, t in pairs)
        either = sum(p == c or t == c for p, t in pairs)
        iou.append(both / either if either else 0.0)
    claimed = sum(0 <= p < num_classes for p, _ in pairs)
    return sum(iou) / num_classes, sum(p == t for p, t in pairs) / claimed, iou


def test_scores_are_those_of_a_slow_version():
    rng = np.random.default_rng(0)
    # Class 5 occurs nowhere, 6 and IGNORE are no classes.
    truth, predicted = (rng.choice([0, 1, 2, 3, 4, 6, IGNORE], 500) for _ in range(2))
    predicted = np.where(rng.random(500) < 0.5, truth, predicted)
    found = kitti_iou(count_confusion(predicted, truth, 6))
    miou, accuracy, iou = slow_scores(predicted.tolist(), truth.tolist(), 6)
    np.testing.assert_allclose(found.iou, iou, rtol=1e-14)
    np.testing.assert_allclose([found.miou, found.accuracy], [miou, accuracy], rtol=1e-14)
    assert found.iou[5] == 0 and 0 < found.miou < 1


def test_rules_that_surprise():
    # No class predicted on a scored point: it is missed. No class annotated: the prediction does not count.
    truth, predicted = np.array([0, 0, 1, IGNORE]), np.array([0, IGNORE, 1, 1])
    found = kitti_iou(count_confusion(predicted, truth, 3))
    np.testing.assert_allclose(found.iou, [0.5, 1, 0])
    # Accuracy is of the points that a class was predicted on.
    assert found.miou == pytest.approx(0.5) and found.accuracy == pytest.approx(1)
    nothing = kitti_iou(count_confusion(truth[:0], truth[:0], 3))
    assert (nothing.miou, nothing.accuracy) == (0, 0)


def metric_of(**kwargs) -> SemanticKittiMetric:
    metric = SemanticKittiMetric(**kwargs)
    metric.dataset_meta = {'classes': ('a', 'b', 'c')}
    return metric


def sample_of(frame: str, predicted: list[int], truth: list[int] | None, **metas) -> dict:
    annotated = None if truth is None else {'pts_semantic_mask': np.array(truth)}
    prediction = {'pts_semantic_mask': torch.tensor(predicted)}
    return {'frame_id': frame, 'pred_pts_seg': prediction, 'eval_ann_info': annotated, **metas}


def test_the_metric_adds_up_scans_and_leaves_out_earlier_ones():
    metric = metric_of(range_bins_m=[(0, 30), (30, None)], class_groups={'rare': ['b', 'c']})
    points = [
        torch.tensor([[10.0, 0, 0], [30, 0, 0], [0, -31, 0], [40, 0, 0]]),
        torch.tensor([[1.0, 1, 1], [0, 0, 50]]),
    ]
    samples = [
        # The fourth point is of an earlier scan; the second lies on the border of both ranges.
        sample_of('08_000000', [0, 1, 1, 2], [0, 0, 1, 0], num_scored_points=3),
        sample_of('08_000001', [2, 0], [1, IGNORE]),
    ]
    # As of a test with augmentation: views, the first as it is.
    metric.process({'inputs': [{'points': points}, {'points': [2 * cloud for cloud in points]}]}, samples[:1])
    metric.process({'inputs': {'points': points[1:]}}, samples[1:])
    found = metric.evaluate(2)
    miou, accuracy, iou = slow_scores([0, 1, 1, 2], [0, 0, 1, 1], 3)
    assert found['semantickitti/miou'] == pytest.approx(miou)
    assert found['semantickitti/accuracy'] == pytest.approx(accuracy)
    assert [found[f'semantickitti/iou/{name}'] for name in 'abc'] == pytest.approx(iou)
    assert found['semantickitti/miou/rare'] == pytest.approx((iou[1] + iou[2]) / 2)
    assert found['semantickitti/0-30m/miou'] == pytest.approx(slow_scores([0, 2], [0, 1], 3)[0])
    assert found['semantickitti/30-m/iou/b'] == pytest.approx(1)


def test_what_cannot_be_scored_is_named():
    with pytest.raises(InputError, match='frame x has no point labels, so it cannot be scored'):
        metric_of().process({}, [sample_of('x', [0], None)])
    with pytest.raises(InputError, match='frame x has 1 predicted labels and 2 annotated ones'):
        metric_of().process({}, [sample_of('x', [0], [0, 1])])
    with pytest.raises(InputError, match='carry no frame_id, pred_pts_seg'):
        metric_of().process({}, [{}])
    with pytest.raises(InputError, match=r"unknown class \(of class_groups\['rare'\]\) 'd'"):
        metric_of(class_groups={'rare': ['d']}).check_classes(['a'])
    with pytest.raises(InputError, match='range_bins_m holds'):
        metric_of(range_bins_m=[(30, 10)])
    metric = metric_of()
    metric.process({}, [sample_of('x', [0], [0])] * 2)
    with pytest.raises(InputError, match='frame x was predicted more than once'):
        metric.evaluate(2)


def test_a_submission_has_the_ids_of_the_benchmark_and_directories(tmp_path: Path):
    metric = SemanticKittiMetric(format_dir=str(tmp_path), format_only=True)
    metric.dataset_meta = {'classes': CLASSES}
    metric.process({}, [sample_of('11_000000', [0, 18, 4, 8], None), sample_of('12_000007', [9, 10], None)])
    assert metric.evaluate(2) == {}
    assert np.fromfile(tmp_path / 'sequences/11/predictions/000000.label', '<u4').tolist() == [10, 81, 20, 40]
    with zipfile.ZipFile(tmp_path / 'submission.zip') as archive:
        assert {info.filename: info.file_size for info in archive.infolist()} == {
            'sequences/': 0, 'sequences/11/': 0, 'sequences/11/predictions/': 0, 'sequences/12/': 0,
            'sequences/12/predictions/': 0, 'sequences/11/predictions/000000.label': 16,
            'sequences/12/predictions/000007.label': 8,
        }  # fmt: skip
    with pytest.raises(InputError, match='frame n008 is not a scan of SemanticKITTI'):
        metric.process({}, [sample_of('n008', [0], None)])
