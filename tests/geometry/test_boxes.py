"""Box geometry against slow references, mmdet3d and mmcv."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmcv import _ext as mmcv_ext
from mmcv_references import load, needs_ops

from perception3d.compat.mmcv_ext import ops_are_compiled
from perception3d.geometry import boxes as box_ops
from perception3d.geometry import iou
from perception3d.ops import nms


def random_bev(rng: np.random.Generator, count: int, spread: float) -> np.ndarray:
    center = rng.uniform(-spread / 2, spread / 2, (count, 2))
    return np.concatenate([center, rng.uniform(0.3, 6, (count, 2)), rng.uniform(-7, 7, (count, 1))], 1)


def random_boxes(rng: np.random.Generator, count: int, spread: float = 20.0) -> np.ndarray:
    bev = random_bev(rng, count, spread)
    z, height = rng.uniform(-2, 1, (count, 1)), rng.uniform(0.5, 3, (count, 1))
    return np.concatenate([bev[:, :2], z, bev[:, 2:4], height, bev[:, 4:]], 1)


def sampled_overlap(first: np.ndarray, second: np.ndarray, steps: int = 700) -> float:
    """Overlap area by counting the midpoints of a fine grid on `first` that lie in `second`."""
    x, y, length, width, yaw = first
    ticks = (np.arange(steps) + 0.5) / steps - 0.5
    u, v = np.meshgrid(ticks * length, ticks * width, indexing='ij')
    px, py = x + u * np.cos(yaw) - v * np.sin(yaw), y + u * np.sin(yaw) + v * np.cos(yaw)
    dx, dy = px - second[0], py - second[1]
    along = dx * np.cos(second[4]) + dy * np.sin(second[4])
    across = dy * np.cos(second[4]) - dx * np.sin(second[4])
    inside = (np.abs(along) <= second[2] / 2) & (np.abs(across) <= second[3] / 2)
    return inside.mean() * length * width


def reference_nms(bev: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    overlaps, kept = iou.bev_iou(bev, bev), []
    for i in np.argsort(-scores, kind='stable'):
        if all(overlaps[i, k] <= threshold for k in kept):
            kept.append(int(i))
    return kept


def test_corners_equal_mmdet3d_and_numpy_equals_torch() -> None:
    from mmdet3d.structures import LiDARInstance3DBoxes

    boxes = random_boxes(np.random.default_rng(0), 50).astype(np.float32)
    ours = box_ops.corners(boxes)
    np.testing.assert_allclose(ours, LiDARInstance3DBoxes(boxes).corners.numpy(), atol=1e-5)
    np.testing.assert_allclose(ours, box_ops.corners(torch.from_numpy(boxes)).numpy(), atol=1e-6)
    assert ours.dtype == np.float32 and box_ops.corners(boxes[:0]).shape == (0, 8, 3)


def test_nearest_bev_and_aligned_iou_equal_mmdet3d() -> None:
    from mmdet3d.structures import LiDARInstance3DBoxes, bbox_overlaps_nearest_3d

    rng = np.random.default_rng(1)
    first = torch.from_numpy(random_boxes(rng, 60)).float()
    second = torch.from_numpy(random_boxes(rng, 40)).float()
    rects = [box_ops.nearest_bev(box_ops.to_bev(b)) for b in (first, second)]
    torch.testing.assert_close(rects[0], LiDARInstance3DBoxes(first).nearest_bev)
    ours = box_ops.aligned_iou(rects[0][:, None], rects[1])
    torch.testing.assert_close(ours, bbox_overlaps_nearest_3d(first, second))
    in_numpy = box_ops.aligned_iou(rects[0].numpy()[:, None], rects[1].numpy())
    np.testing.assert_allclose(in_numpy, ours.numpy(), atol=1e-6)


def test_limit_period_keeps_the_angle_and_its_range() -> None:
    angle = torch.linspace(-20, 20, 1001, dtype=torch.float64)
    wrapped = box_ops.limit_period(angle)
    torch.testing.assert_close(torch.sin(wrapped), torch.sin(angle))
    torch.testing.assert_close(torch.cos(wrapped), torch.cos(angle))
    assert wrapped.min() >= -math.pi and wrapped.max() < math.pi


def test_overlap_equals_fine_sampling() -> None:
    rng = np.random.default_rng(2)
    first, second = random_bev(rng, 25, 4.0), random_bev(rng, 25, 4.0)
    exact = iou.bev_overlap(first, second, aligned=True)
    sampled = [sampled_overlap(a, b) for a, b in zip(first, second, strict=True)]
    assert (exact > 0.1).sum() > 10
    np.testing.assert_allclose(exact, sampled, atol=0.03)
    all_pairs = iou.bev_overlap(first, second)
    np.testing.assert_allclose(np.diag(all_pairs), exact, atol=1e-12)


@needs_ops
@pytest.mark.parametrize('spread', [3.0, 60.0])
def test_iou_equals_mmcv(spread: float) -> None:
    rng = np.random.default_rng(3)
    first, second = (random_bev(rng, n, spread).astype(np.float32) for n in (80, 60))
    theirs = torch.zeros(80 * 60)
    mmcv_ext.box_iou_rotated(torch.from_numpy(first), torch.from_numpy(second), theirs, mode_flag=0, aligned=False)
    theirs = theirs.view(80, 60)
    np.testing.assert_allclose(iou.bev_iou(first, second), theirs.numpy(), atol=1e-5)
    as_tensors = iou.bev_iou(torch.from_numpy(first), torch.from_numpy(second))
    torch.testing.assert_close(as_tensors, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', ['overlaps_near', 'overlaps_far'])
def test_iou_equals_the_stored_one_of_mmcv(name: str) -> None:
    stored = load(name)
    first, second = stored['first'], stored['second']
    np.testing.assert_allclose(iou.bev_iou(first.numpy(), second.numpy()), stored['iou'].numpy(), atol=1e-5)
    torch.testing.assert_close(iou.bev_iou(first, second), stored['iou'], atol=1e-5, rtol=0)
    torch.testing.assert_close(iou.bev_iou(first[:20], second, True), stored['aligned_iou'], atol=1e-5, rtol=0)


def test_many_pairs_equal_few() -> None:
    rng = np.random.default_rng(7)
    first, second = random_bev(rng, 500, 60.0), random_bev(rng, 450, 60.0)
    at_once = iou.bev_iou(first, second)
    in_parts = np.concatenate([iou.bev_iou(part, second) for part in np.split(first, 5)])
    assert len(first) * len(second) > iou._PARALLEL_PAIRS > len(first) // 5 * len(second)
    np.testing.assert_array_equal(at_once, in_parts)


def test_iou_of_special_cases_is_known() -> None:
    base = np.array([[100.0, -40.0, 4.0, 2.0, 0.7]])
    turned = base + [0, 0, 0, 0, math.pi]
    quarter = np.array([[100.0, -40.0, 2.0, 4.0, 0.7 + math.pi / 2]])
    halved = base * [1, 1, 0.5, 1, 1]
    touching = base + [4 * math.cos(0.7), 4 * math.sin(0.7), 0, 0, 0]
    crossed = base + [0, 0, 0, 0, math.pi / 2]
    empty, broken = base * [1, 1, 0, 1, 1], base + [np.nan, 0, 0, 0, 0]
    cases = [
        (base, 1),
        (turned, 1),
        (quarter, 1),
        (halved, 0.5),
        (touching, 0),
        (crossed, 1 / 3),
        (empty, 0),
        (broken, 0),
    ]
    for other, expected in cases:
        assert iou.bev_iou(base, other)[0, 0] == pytest.approx(expected, abs=1e-9)
        assert iou.bev_iou(other, base, aligned=True)[0] == pytest.approx(expected, abs=1e-9)
    octagon = iou.bev_overlap(np.array([[0, 0, 2, 2, 0.0]]), np.array([[0, 0, 2, 2, math.pi / 4]]))[0, 0]
    assert octagon == pytest.approx(8 * (math.sqrt(2) - 1), abs=1e-12)


def test_volume_iou_multiplies_in_the_height() -> None:
    rng = np.random.default_rng(4)
    first, second = random_boxes(rng, 30, 6.0), random_boxes(rng, 20, 6.0)
    result = iou.box_iou(first, second)
    area = iou.bev_overlap(box_ops.to_bev(first), box_ops.to_bev(second))
    for i in range(30):
        for k in range(20):
            low = max(first[i, 2], second[k, 2])
            top = min(first[i, 2] + first[i, 5], second[k, 2] + second[k, 5])
            both = area[i, k] * max(top - low, 0)
            union = np.prod(first[i, 3:6]) + np.prod(second[k, 3:6]) - both
            assert result[i, k] == pytest.approx(both / union, abs=1e-12)
    np.testing.assert_allclose(iou.box_iou(first[:20], second, aligned=True), np.diag(result[:20]), atol=1e-12)


@pytest.mark.parametrize('threshold', [0.1, 0.5])
def test_rotated_nms_equals_mmcv_and_a_slow_loop(threshold: float) -> None:
    rng = np.random.default_rng(5)
    bev, scores = random_bev(rng, 150, 20.0).astype(np.float32), rng.random(150).astype(np.float32)
    ours = nms.nms_rotated(bev, scores, threshold)
    assert ours.tolist() == reference_nms(bev, scores, threshold)
    if ops_are_compiled():
        tensors = torch.from_numpy(bev), torch.from_numpy(scores)
        order = tensors[1].argsort(descending=True)
        none = torch.zeros(0, dtype=torch.int)
        theirs = mmcv_ext.nms_rotated(*tensors, order, tensors[0][order], none, threshold, False)
        assert ours.tolist() == theirs.tolist()
    labels = rng.integers(0, 3, 150)
    by_class = nms.nms_rotated(torch.from_numpy(bev), torch.from_numpy(scores), threshold, torch.from_numpy(labels))
    parts = [np.flatnonzero(labels == c) for c in range(3)]
    expected = [i for p in parts for i in p[reference_nms(bev[p], scores[p], threshold)]]
    assert by_class.tolist() == sorted(expected, key=lambda i: -scores[i])


def test_rotated_nms_keeps_the_boxes_that_mmcv_keeps() -> None:
    stored = load('suppression')
    bev = stored['boxes'][:, [0, 1, 3, 4, 6]]
    for threshold in (0.1, 0.5):
        assert torch.equal(nms.nms_rotated(bev, stored['scores'], threshold), stored[f'kept_{threshold}'])


def test_circle_nms_keeps_the_best_of_each_neighbourhood() -> None:
    rng = np.random.default_rng(6)
    xy, scores = rng.uniform(-10, 10, (120, 2)), rng.random(120)
    kept: list[int] = []
    for i in np.argsort(-scores):
        if all(((xy[i] - xy[k]) ** 2).sum() > 4.0 for k in kept):
            kept.append(int(i))

    def by_distance(centres, values, squared_distance, limit=None):
        bev = np.concatenate([centres, np.zeros((len(centres), 3))], 1)
        limits = None if limit is None else [limit]
        return nms.nms_groups(bev, values, np.zeros(len(bev), int), [squared_distance], [True], limits).tolist()

    assert by_distance(xy, scores, 4.0) == kept
    assert by_distance(xy, scores, 4.0, limit=7) == kept[:7]
    assert by_distance(np.zeros((3, 2)), np.array([1.0, 3.0, 2.0]), 0.0) == [1]


def test_nms_drops_broken_boxes_and_takes_none() -> None:
    bev = np.array([[0, 0, 1, 1, 0], [np.nan, 0, 1, 1, 0], [5, 5, 1, 1, 0]], np.float32)
    assert nms.nms_rotated(bev, np.array([0.5, 0.9, np.nan]), 0.2).tolist() == [0]
    assert nms.nms_rotated(bev[:0], np.zeros(0), 0.2).tolist() == []
    mixed = nms.nms_groups(bev[[0, 0, 0]], np.array([3.0, 2, 1]), np.array([1, 1, 0]), [0.2, 0.2], [False, True])
    assert mixed.tolist() == [0, 2]


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor says that it is on a GPU, where mmcv's op keeps broken boxes and has no indices for no boxes."""
    import mmcv.ops

    def cuda_nms(dets, scores, iou_threshold, labels=None):
        if not len(dets):
            return dets, None
        apart = dets + 0 if labels is None else dets + 1000.0 * labels[:, None] * torch.tensor([1.0, 0, 0, 0, 0])
        kept = torch.tensor(reference_nms(apart.numpy(), scores.numpy(), iou_threshold))
        return torch.cat([dets, scores[:, None]], 1)[kept], kept

    monkeypatch.setattr(mmcv.ops, 'nms_rotated', cuda_nms)
    monkeypatch.setattr(torch.Tensor, 'is_cuda', property(lambda tensor: True))


@pytest.mark.parametrize('labelled', [False, True])
def test_cuda_tensors_take_no_boxes_and_drop_broken_ones_as_the_cpu_does(as_on_cuda: None, labelled: bool) -> None:
    rng = np.random.default_rng(7)
    bev, scores = random_bev(rng, 60, 10.0).astype(np.float32), rng.random(60).astype(np.float32)
    bev[7, 3], bev[20, 0], scores[31], scores[40] = np.nan, np.inf, np.nan, np.inf
    labels = rng.integers(0, 3, 60) if labelled else None
    wanted = nms.nms_rotated(bev, scores, 0.2, labels)
    tensors = [None if array is None else torch.from_numpy(array) for array in (bev, scores, labels)]
    assert 5 < len(wanted) < 56
    assert nms.nms_rotated(*tensors[:2], 0.2, tensors[2]).tolist() == wanted.tolist()
    for rows in (slice(0, 0), [7, 31]):
        some = [None if tensor is None else tensor[rows] for tensor in tensors]
        none = nms.nms_rotated(*some[:2], 0.2, some[2])
        assert none.dtype == torch.int64 and none.shape == (0,)
