"""HeatmapKD on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from perception3d.distill.losses.heatmap import HeatmapKD

THREE = math.log(3)
# Logits ln 3, 0, -ln 3 are the scores 0.75, 0.5, 0.25. Two classes, two pixels:
# pixel 0: teacher (0.75, 0.5), student (0.5, 0.5): squares 0.0625, 0; mask 0.75.
# pixel 1: teacher (0.25, 0.25), student (0.75, 0.25): squares 0.25, 0; mask 0.25.
TEACHER = torch.tensor([[[[THREE, -THREE]], [[0.0, -THREE]]]])
STUDENT = torch.tensor([[[[0.0, THREE]], [[0.0, -THREE]]]])


@pytest.mark.parametrize(
    'settings, expected',
    [
        # (0.75 * 0.0625 + 0.25 * 0.25) / (0.75 + 0.25)
        (dict(), 0.109375),
        # (0.0625 + 0.25) / 2
        (dict(mask='none'), 0.15625),
        # Pixel 0 alone: its weight cancels.
        (dict(score_thr=0.5), 0.0625),
        (dict(mask='none', score_thr=0.5), 0.0625),
    ],
)
def test_loss_by_hand(settings: dict, expected: float) -> None:
    assert HeatmapKD(**settings)(STUDENT, TEACHER, None).item() == pytest.approx(expected, abs=1e-6)


def test_normaliser_is_the_mask_of_the_whole_batch() -> None:
    # A second sample, equal in both, with scores 0.75: mask 0.75 twice and no error.
    student = torch.cat([STUDENT, torch.full_like(STUDENT, THREE)])
    teacher = torch.cat([TEACHER, torch.full_like(TEACHER, THREE)])
    assert HeatmapKD()(student, teacher, None).item() == pytest.approx(0.109375 / 2.5, abs=1e-6)


@pytest.mark.parametrize('mask', ['soft', 'none'])
def test_no_pixel_above_the_threshold_gives_zero(mask: str) -> None:
    student = STUDENT.clone().requires_grad_()
    loss = HeatmapKD(mask=mask, score_thr=0.9)(student, TEACHER, None)
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_pixels_with_a_low_teacher_score_hardly_count_with_the_soft_mask() -> None:
    teacher = torch.full((1, 1, 10, 10), -9.0)
    teacher[0, 0, 5, 5] = 9.0
    wrong_elsewhere, wrong_there = teacher.clone(), teacher.clone()
    wrong_elsewhere[0, 0, 2, 2] = 9.0
    wrong_there[0, 0, 5, 5] = -9.0
    assert HeatmapKD()(wrong_there, teacher, None) > 1000 * HeatmapKD()(wrong_elsewhere, teacher, None)
    plain = HeatmapKD(mask='none')
    assert torch.allclose(plain(wrong_there, teacher, None), plain(wrong_elsewhere, teacher, None))


def test_logits_are_resized_and_not_scores() -> None:
    # The mean logit of four pixels, 8, 0, 0, 0, is 2; the mean of their scores would be 0.625.
    teacher = torch.tensor([[[[8.0, 0.0], [0.0, 0.0]]]])
    loss = HeatmapKD(resample='bilinear')(torch.full((1, 1, 1, 1), 2.0), teacher, None)
    assert loss.item() == pytest.approx(0, abs=1e-10)
