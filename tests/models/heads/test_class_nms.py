"""Scale-NMS against a slow loop over classes, with overlaps of the general kernel and with stored ones of mmcv."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import box_iou_rotated
from mmcv_references import FACTORS, THRESHOLDS, load
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.heads.class_nms import ClassNMS


def random_candidates(count: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 9, generator=generator)
    boxes[:, :2] = (boxes[:, :2] - 0.5) * spread
    boxes[:, 3:5] = 0.3 + boxes[:, 3:5] * 4
    boxes[:, 6] *= 6
    return boxes, torch.rand(count, 10, generator=generator) ** 3


def slow_scale_nms(
    boxes: Tensor, scores: Tensor, rule: ClassNMS, threshold: float, limit: int, over: Tensor | None = None
) -> list[tuple]:
    """(score, box, class) of the survivors, best first; `over` (C, N, N) says whose IoU is above the threshold."""
    found = []
    for c in range(scores.shape[1]):
        bev = boxes[:, [0, 1, 3, 4, 6]].clone()
        bev[:, 2:4] *= rule.factors[c]
        order = [i for i in scores[:, c].argsort(descending=True).tolist() if scores[i, c] > threshold]
        if rule.kinds[c] == 'circle':
            removes = torch.cdist(bev[:, :2].double(), bev[:, :2].double()) ** 2 <= rule.thresholds[c]
        elif over is not None:
            removes = over[c]
        else:
            removes = box_iou_rotated(bev, bev) > rule.thresholds[c]
        kept: list[int] = []
        for i in order:
            if not any(removes[k, i] for k in kept):
                kept.append(i)
        kept = kept[: rule.circle_limit] if rule.kinds[c] == 'circle' else kept
        found += [(scores[i, c].item(), i, c) for i in kept]
    return sorted(found, reverse=True)[:limit]


@pytest.mark.parametrize('rule', [ClassNMS(), ClassNMS.plain(10), ClassNMS(circle_limit=5)])
@pytest.mark.parametrize('spread, limit', [(15.0, 500), (40.0, 60)])
def test_selection_equals_the_slow_loop(rule: ClassNMS, spread: float, limit: int) -> None:
    boxes, scores = random_candidates(120, spread)
    index, labels = rule.select(boxes, scores, 0.05, limit)
    ours = list(zip(scores[index, labels].tolist(), index.tolist(), labels.tolist(), strict=True))
    assert ours == slow_scale_nms(boxes, scores, rule, 0.05, limit)
    assert len(ours) == limit or len(ours) > 100


def test_selection_is_that_by_the_overlaps_of_mmcv() -> None:
    stored, rule = load('scaled_overlaps'), ClassNMS()
    index, labels = rule.select(stored['boxes'], stored['scores'], 0.05, 1000)
    ours = list(zip(stored['scores'][index, labels].tolist(), index.tolist(), labels.tolist(), strict=True))
    assert ours == slow_scale_nms(stored['boxes'], stored['scores'], rule, 0.05, 1000, stored['over'])
    assert tuple(rule.factors) == FACTORS and tuple(rule.thresholds[:9]) == THRESHOLDS and 100 < len(ours) < 500


def test_released_rule_is_the_default() -> None:
    rule = ClassNMS()
    assert tuple(rule.factors) == FACTORS
    assert list(rule.kinds) == ['rotate'] * 9 + ['circle']
    assert list(rule.thresholds) == [0.2] * 7 + [0.5, 0.5, 1.0] and rule.circle_limit == 83


def test_small_objects_are_merged_only_when_scaled() -> None:
    """Two detections of one cone half a metre apart do not overlap; enlarged nine times they do."""
    boxes = torch.tensor([[0, 0, 0, 0.4, 0.4, 1, 0, 0, 0], [0.5, 0, 0, 0.4, 0.4, 1, 0, 0, 0]], dtype=torch.float32)
    scores = torch.zeros(2, 10)
    scores[:, 8] = torch.tensor([0.6, 0.9])
    assert ClassNMS().select(boxes, scores, 0.05, 500)[0].tolist() == [1]
    assert ClassNMS.plain(10).select(boxes, scores, 0.05, 500)[0].tolist() == [1, 0]


def test_nothing_above_the_threshold_gives_nothing() -> None:
    boxes, scores = random_candidates(20, 10.0)
    index, labels = ClassNMS().select(boxes, scores * 0.01, 0.05, 500)
    assert index.shape == labels.shape == (0,)
    with pytest.raises(InputError, match='rules for 10 classes, but the head scores 3'):
        ClassNMS().select(boxes, scores[:, :3], 0.05, 500)
