"""AP in the LiDAR frame: against slow matching, nuScenes' own code, and cases worked out by hand; its metric."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmdet3d.structures import CameraInstance3DBoxes, LiDARInstance3DBoxes
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.utils import center_distance
from nuscenes.eval.detection.algo import accumulate, calc_ap
from nuscenes.eval.detection.data_classes import DetectionBox
from slow_kitti import area, clipped

from perception3d.checks import InputError
from perception3d.formats.custom_boxes.evaluation.ap import (
    DISTANCES_M,
    LidarBoxes,
    LidarScores,
    interpolated_ap,
    lidar_scores,
)
from perception3d.formats.custom_boxes.evaluation.metric import LidarDetectionMetric

CLASSES = ('Car', 'Pedestrian', 'Cyclist')


def random_tables(seed: int, frames: int = 12) -> tuple[LidarBoxes, LidarBoxes]:
    """Objects, some with label -1, and detections: noisy copies, misnamed ones, false ones; frames without any."""
    rng = np.random.default_rng(seed)
    truth, labels, boxes, found, scores, starts = [], [], [], [], [], [[0], [0]]
    for frame in range(frames):
        n = 0 if frame % 5 == 2 else int(rng.integers(1, 15))
        real = rng.uniform([-60, -60, -2, 1, 0.6, 1.4, -4], [60, 60, -1, 5, 2, 2, 4], (n, 7))
        kind = rng.integers(-1, 3, n)
        near = np.repeat(real, 2, 0) + rng.normal(size=(2 * n, 7)) * np.repeat(rng.choice([0, 0.1, 0.5], n), 2)[:, None]
        near[:, 3:6] = near[:, 3:6].clip(0.3)
        false = rng.uniform([-60, -60, -2, 1, 0.6, 1.4, -4], [60, 60, -1, 5, 2, 2, 4], (4, 7))
        near_kind = np.where(rng.random(2 * n) < 0.1, 0, np.repeat(kind, 2).clip(0))
        truth.append(real)
        labels.append(kind)
        boxes += [near, false]
        found += [near_kind, rng.integers(0, 3, 4)]
        starts[0].append(starts[0][-1] + n)
        starts[1].append(starts[1][-1] + 2 * n + 4)
    scores = rng.permutation(starts[1][-1]) / starts[1][-1]
    first = LidarBoxes(np.concatenate(truth), np.concatenate(labels), np.array(starts[0]))
    return first, LidarBoxes(np.concatenate(boxes), np.concatenate(found), np.array(starts[1]), scores)


def polygon(box: np.ndarray) -> list[tuple[float, float]]:
    c, s = math.cos(box[6]), math.sin(box[6])
    corners = [
        (box[3] / 2, box[4] / 2),
        (-box[3] / 2, box[4] / 2),
        (-box[3] / 2, -box[4] / 2),
        (box[3] / 2, -box[4] / 2),
    ]
    return [(box[0] + c * a - s * b, box[1] + s * a + c * b) for a, b in corners]


def slow_overlap(a: np.ndarray, b: np.ndarray, space: bool) -> float:
    if math.dist(a[:2], b[:2]) > 12:
        return 0.0
    both, own, other = abs(area(clipped(polygon(a), polygon(b)) or [(0, 0)])), a[3] * a[4], b[3] * b[4]
    if space:
        both *= max(0.0, min(a[2] + a[5], b[2] + b[5]) - max(a[2], b[2]))
        own, other = own * a[5], other * b[5]
    return both / (own + other - both)


def slow_ap(truth: LidarBoxes, found: LidarBoxes, label: int, bound: float, space: bool, low=0.0, high=np.inf) -> float:
    taken, hits = set(), []
    frame_of = [np.searchsorted(found.starts, j, 'right') - 1 for j in range(len(found.labels))]
    for j in sorted(range(len(found.labels)), key=lambda j: -found.scores[j]):
        if found.labels[j] != label:
            continue
        rows = range(truth.starts[frame_of[j]], truth.starts[frame_of[j] + 1])
        free = [i for i in rows if truth.labels[i] == label and i not in taken]
        ious = {i: slow_overlap(truth.boxes[i], found.boxes[j], space) for i in free}
        best = max(ious, key=ious.get, default=None)
        hit = best is not None and ious[best] > bound
        if hit:
            taken.add(best)
        place = truth.boxes[best] if hit else found.boxes[j]
        if low <= math.hypot(place[0], place[1]) < high:
            hits.append(hit)
    inside = [low <= math.hypot(b[0], b[1]) < high for b in truth.boxes[truth.labels == label]]
    total = 0.0
    for step in range(1, 41):
        reached = [
            sum(hits[: k + 1]) / (k + 1) for k in range(len(hits)) if sum(hits[: k + 1]) * 40 >= step * sum(inside)
        ]
        total += max(reached, default=0.0)
    return total / 40 * 100


@pytest.mark.parametrize('seed', range(3))
def test_overlap_ap_of_random_boxes_is_that_of_slow_matching(seed: int):
    truth, found = random_tables(seed)
    thresholds = [0.5, 0.3, 0.2]
    bins = [(0, 30), (30, 50), (50, np.inf)]
    every = lidar_scores(truth, found, thresholds, bins)
    for part, (low, high) in zip(every, [(0, np.inf), *bins], strict=True):
        for label, threshold in enumerate(thresholds):
            for ours, space in ((part.bev[label], False), (part.space[label], True)):
                assert ours == pytest.approx(slow_ap(truth, found, label, threshold, space, low, high), abs=1e-9)
    assert all(5 < value < 95 for value in [*every[0].bev, *every[0].space])
    assert sum(part.objects for part in every[1:]).tolist() == every[0].objects.tolist()


@pytest.mark.parametrize('seed', range(3))
def test_distance_ap_of_random_boxes_is_that_of_the_nuscenes_devkit(seed: int):
    truth, found = random_tables(seed)

    def eval_boxes(table: LidarBoxes) -> EvalBoxes:
        boxes = EvalBoxes()
        for frame in range(len(table.starts) - 1):
            rows = range(table.starts[frame], table.starts[frame + 1])
            names = {0: 'car', 1: 'pedestrian', 2: 'bicycle'}
            boxes.add_boxes(
                str(frame),
                [
                    DetectionBox(
                        sample_token=str(frame),
                        translation=tuple(table.boxes[i, :3]),
                        size=(1, 1, 1),
                        rotation=(1, 0, 0, 0),
                        velocity=(0, 0),
                        detection_name=names[int(table.labels[i])],
                        detection_score=-1.0 if table.scores is None else float(table.scores[i]),
                    )
                    for i in rows
                    if table.labels[i] >= 0
                ],
            )
        return boxes

    ours = lidar_scores(truth, found, [0.5] * 3)[0].distance
    gt, pred = eval_boxes(truth), eval_boxes(found)
    for label, name in enumerate(('car', 'pedestrian', 'bicycle')):
        for k, distance in enumerate(DISTANCES_M):
            theirs = calc_ap(accumulate(gt, pred, name, center_distance, distance), 0.1, 0.1)
            assert ours[label, k] == pytest.approx(100 * theirs, abs=1e-9)
            assert 5 < ours[label, k] < 95


def table(rows: list[list[float]], labels: list[int], scores: list[float] | None = None) -> LidarBoxes:
    boxes = np.array(rows, float).reshape(-1, 7)
    return LidarBoxes(
        boxes, np.array(labels, int), np.array([0, len(boxes)]), None if scores is None else np.array(scores)
    )


def test_few_perfect_detections_score_100():
    rows = [[10, 0, -1, 4, 2, 1.5, 0.3], [20, 5, -1, 4, 2, 1.5, -2.0]]
    scores = lidar_scores(table(rows, [0, 0]), table(rows, [0, 0], [0.5, 0.5]), [0.99])[0]
    assert scores.bev[0] == scores.space[0] == pytest.approx(100)
    assert scores.distance[0] == pytest.approx([100] * 4)


def test_hits_of_half_the_objects_score_by_the_recalls_that_they_reach():
    # Two of four objects: precision 1 up to recall 1/4, then 2/3 up to 1/2.
    assert interpolated_ap(np.array([True, False, True, False]), 4) == pytest.approx((10 + 10 * 2 / 3) / 40 * 100)
    assert interpolated_ap(np.array([], bool), 4) == 0
    # A recall of exactly 3/40 is reached by 3 of 40.
    assert interpolated_ap(np.ones(3, bool), 40) == pytest.approx(3 / 40 * 100)


def test_objects_with_a_negative_label_are_left_out_and_classes_without_objects_have_no_ap():
    rows = [[10, 0, -1, 4, 2, 1.5, 0.3], [20, 5, -1, 4, 2, 1.5, -2.0]]
    scores = lidar_scores(table(rows, [0, -1]), table(rows, [0, 0], [0.5, 0.9]), [0.5, 0.5])[0]
    assert scores.bev[0] == pytest.approx(50)
    assert scores.objects.tolist() == [1, 0]
    assert scores.detections.tolist() == [2, 0]
    assert np.isnan(scores.bev[1])
    assert np.isnan(scores.distance[1]).all()


def test_the_overlap_must_exceed_the_threshold_and_the_distance_be_less():
    truth = table([[10, 0, 0, 4, 2, 2, 0]], [0])
    found = table([[10, 0, 0, 2, 2, 2, 0]], [0], [0.5])
    assert lidar_scores(truth, found, [0.5])[0].bev[0] == 0
    assert lidar_scores(truth, found, [0.4999])[0].bev[0] == 100
    next_to = table([[11, 0, 0, 4, 2, 2, 0]], [0], [0.5])
    assert lidar_scores(truth, next_to, [0.5])[0].distance[0] == pytest.approx([0, 0, 100, 100])


def test_tables_that_do_not_fit_get_one_line():
    truth, found = random_tables(0, 4)
    short = LidarBoxes(truth.boxes[:0], truth.labels[:0], np.zeros(4, int))
    with pytest.raises(InputError, match='3 frames of objects, but 4 of detections'):
        lidar_scores(short, found, [0.5] * 3)
    with pytest.raises(InputError, match='the detections hold label 2, there are 2 classes'):
        lidar_scores(LidarBoxes(truth.boxes, truth.labels * 0, truth.starts), found, [0.5] * 2)
    broken = LidarBoxes(found.boxes.copy(), found.labels, found.starts, found.scores)
    broken.boxes[found.starts[2] + 1, 3] = math.nan
    with pytest.raises(InputError, match='a box of the detections of frame 2 is not finite'):
        lidar_scores(truth, broken, [0.5] * 3)


def samples_of(truth: LidarBoxes, found: LidarBoxes) -> list[dict]:
    samples = []
    for frame in range(len(truth.starts) - 1):
        a, b = slice(*truth.starts[frame : frame + 2]), slice(*found.starts[frame : frame + 2])
        predicted = dict(
            bboxes_3d=LiDARInstance3DBoxes(torch.from_numpy(found.boxes[b]).float()),
            labels_3d=torch.from_numpy(found.labels[b]),
            scores_3d=torch.from_numpy(found.scores[b]).float(),
        )
        annotated = dict(
            gt_bboxes_3d=LiDARInstance3DBoxes(torch.from_numpy(truth.boxes[a]).float()), gt_labels_3d=truth.labels[a]
        )
        samples.append(dict(pred_instances_3d=predicted, eval_ann_info=annotated, frame_id=f'drive-{frame}'))
    return samples


def run(samples: list[dict], classes=CLASSES, **kwargs) -> dict[str, float]:
    metric = LidarDetectionMetric(**kwargs)
    metric.dataset_meta = dict(classes=classes)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def expected_keys(part: LidarScores, bin_name: str) -> dict[str, float]:
    keys = {}
    for label, name in enumerate(CLASSES):
        keys[f'lidar/bev/{bin_name}{name}'] = part.bev[label]
        keys[f'lidar/3d/{bin_name}{name}'] = part.space[label]
        keys[f'lidar/distance/{bin_name}{name}'] = part.distance[label].mean()
        keys[f'lidar/distance@0.5m/{bin_name}{name}'] = part.distance[label, 0]
    return keys


def test_the_metric_gives_the_same_scores_by_class_and_range():
    truth, found = random_tables(3)
    limits = dict(Car=0.5, Pedestrian=0.3, Cyclist=0.2)
    scores = run(samples_of(truth, found), iou_thresholds=limits, range_bins_m=[(0, 30), (30, None)])
    every = lidar_scores(truth, found, [0.5, 0.3, 0.2], [(0, 30), (30, np.inf)])
    for part, name in zip(every, ('', '0-30m/', '30-m/'), strict=True):
        expected = expected_keys(part, name)
        assert {key: scores[key] for key in expected} == pytest.approx(expected, abs=1e-6)
        assert scores[f'lidar/3d/{name}mAP'] == pytest.approx(part.space.mean(), abs=1e-6)
    assert all(math.isfinite(value) for value in scores.values())


def test_the_order_of_frames_changes_nothing():
    samples = samples_of(*random_tables(4))
    assert run(samples[::-1]) == pytest.approx(run(samples))


def test_classes_without_objects_have_no_scores_and_nothing_found_scores_zero():
    truth, found = random_tables(5)
    only_cars = LidarBoxes(truth.boxes, np.where(truth.labels == 0, 0, -1), truth.starts)
    nothing = LidarBoxes(found.boxes[:0], found.labels[:0], found.starts * 0, found.scores[:0])
    scores = run(samples_of(only_cars, nothing))
    assert set(scores.values()) == {0.0}
    assert 'lidar/3d/Car' in scores
    assert 'lidar/3d/Pedestrian' not in scores
    neither = LidarBoxes(truth.boxes, truth.labels * 0 - 1, truth.starts)
    assert run(samples_of(neither, nothing)) == {}


def test_predictions_that_are_not_finite_are_left_out():
    truth, found = random_tables(6)
    samples = samples_of(truth, found)
    expected = run(samples)
    predicted = samples[0]['pred_instances_3d']
    predicted['bboxes_3d'] = LiDARInstance3DBoxes(
        torch.cat([predicted['bboxes_3d'].tensor, torch.full((1, 7), math.nan)])
    )
    predicted['labels_3d'] = torch.cat([predicted['labels_3d'], torch.tensor([0])])
    predicted['scores_3d'] = torch.cat([predicted['scores_3d'], torch.tensor([2.0])])
    assert run(samples) == expected


def test_bad_samples_and_settings_get_one_line():
    samples = samples_of(*random_tables(0, 2))
    with pytest.raises(InputError, match='frame drive-0 was predicted more than once'):
        run([samples[0], samples[0]])
    with pytest.raises(InputError, match='carry no eval_ann_info: pack them'):
        run([{key: value for key, value in samples[0].items() if key != 'eval_ann_info'}])
    with pytest.raises(InputError, match='frame drive-0 has no labels, so it cannot be scored'):
        run([{**samples[0], 'eval_ann_info': None}])
    camera = {**samples[0]['eval_ann_info'], 'gt_bboxes_3d': CameraInstance3DBoxes(torch.zeros(1, 7))}
    with pytest.raises(InputError, match='frame drive-0 has CameraInstance3DBoxes'):
        run([{**samples[0], 'eval_ann_info': camera}])
    with pytest.raises(InputError, match="unknown class in iou_thresholds 'Cars': did you mean 'Car'"):
        run(samples, iou_thresholds=dict(Cars=0.5))
    with pytest.raises(InputError, match='no entry for Pedestrian, Cyclist'):
        run(samples, iou_thresholds=dict(Car=0.5))
    with pytest.raises(InputError, match='range_bins_m holds'):
        LidarDetectionMetric(range_bins_m=[(30, 10)])
