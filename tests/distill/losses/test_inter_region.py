"""IntRA-KD: areas of interest, moments and affinities by loops, and samples that lack a class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.inter_region import (
    InterRegionKD,
    areas_of_interest,
    inter_region_loss,
    region_affinity,
    region_moments,
)


def maps(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks(seed: int, *shape: int, classes: int = 3) -> Tensor:
    values = torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))
    values[:, 0, :3] = 255
    return values


def slow_areas(mask: np.ndarray, classes: int, size: tuple[int, int], kernel: int) -> np.ndarray:
    height, width = mask.shape
    half = kernel // 2
    blurred = np.zeros((classes, height, width))
    for y in range(height):
        for x in range(width):
            window = mask[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
            blurred[:, y, x] = [(window == index).mean() for index in range(classes)]
    cells = height // size[0], width // size[1]
    return blurred.reshape(classes, size[0], cells[0], size[1], cells[1]).mean((2, 4))


def slow_affinity(features: np.ndarray, areas: np.ndarray) -> np.ndarray:
    moments = np.zeros((3, len(areas), len(features)))
    for index, area in enumerate(areas):
        for channel, values in enumerate(features):
            weights = area / area.sum()
            mean = (weights * values).sum()
            variance = (weights * (values - mean) ** 2).sum()
            skew = (weights * ((values - mean) / np.sqrt(variance + 1e-6)) ** 3).sum()
            moments[:, index, channel] = mean, variance, skew
    result = np.zeros((3, len(areas), len(areas)))
    for r in range(3):
        for i in range(len(areas)):
            for j in range(len(areas)):
                a, b = moments[r, i], moments[r, j]
                result[r, i, j] = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    return result


def context_of(labels: Tensor) -> DistillContext:
    samples = []
    for mask in labels:
        sample = BaseDataElement()
        sample.gt_lane_seg = PixelData(lane_mask=mask[None])
        samples.append(sample)
    return DistillContext(0, {}, {}, {}, samples, {}, [])


@pytest.mark.parametrize('kernel', [1, 5])
def test_areas_are_those_of_loops(kernel: int) -> None:
    labels = masks(0, 2, 8, 12)
    areas = areas_of_interest(labels, 3, (4, 3), kernel)
    for ours, mask in zip(areas.double(), labels.numpy(), strict=True):
        np.testing.assert_allclose(ours, slow_areas(mask, 3, (4, 3), kernel), atol=1e-6)


def test_loss_is_that_of_loops() -> None:
    student, teacher, labels = maps(0, 2, 4, 4, 6), maps(1, 2, 7, 2, 3), masks(2, 2, 8, 12)
    loss = InterRegionKD(num_classes=3)(student, teacher, context_of(labels))
    wanted = 0.0
    for index in range(2):
        ends = [
            slow_affinity(x[index].numpy(), slow_areas(labels[index].numpy(), 3, x.shape[2:], 5))
            for x in (student, teacher)
        ]
        wanted += ((ends[0] - ends[1]) ** 2).sum() / (3 * 3**2) / 2
    assert float(loss) == pytest.approx(wanted, rel=1e-5) and wanted > 1e-3


def test_moments_of_a_plain_area_are_its_mean_variance_and_skewness() -> None:
    features = 1000 + 0.1 * maps(0, 1, 2, 3, 4)
    areas = torch.zeros(1, 1, 3, 4, dtype=torch.float64)
    areas[..., :2] = 1
    inside = features[0, :, :, :2].reshape(2, -1).numpy()
    variance = inside.var(1)
    skew = ((inside - inside.mean(1, keepdims=True)) ** 3).mean(1) / variance**1.5
    # In float32 the features themselves are rounded by 3e-4 of their spread.
    for dtype, tolerance in ((torch.float64, 1e-4), (torch.float32, 5e-3)):
        ours = region_moments(features.to(dtype), areas.to(dtype))[0, :, 0].double().numpy()
        np.testing.assert_allclose(ours, [inside.mean(1), variance, skew], rtol=tolerance, atol=tolerance)


def test_absent_classes_and_constant_channels_keep_loss_and_gradient_finite() -> None:
    labels = torch.zeros(2, 8, 12, dtype=torch.long)
    labels[1, 2:5, 3:6] = 1
    student = torch.zeros(2, 4, 4, 6, requires_grad=True)
    loss = InterRegionKD(num_classes=5)(student + 3.0, maps(1, 2, 7, 4, 6).float(), context_of(labels))
    loss.backward()
    assert loss > 0 and student.grad is not None and student.grad.isfinite().all()
    affinity = region_affinity(maps(0, 2, 4, 4, 6), areas_of_interest(labels, 5, (4, 6)).double())
    assert (
        not affinity[:, :, 2:].any()
        and not affinity[0, :, 1].any()
        and affinity[1, :, 1, 1].allclose(torch.ones(()).double())
    )


def test_gradients_reach_the_student_alone_and_are_right() -> None:
    areas = areas_of_interest(masks(2, 2, 6, 8), 3, (3, 4)).double()
    student, teacher = maps(0, 2, 3, 3, 4).requires_grad_(), maps(1, 2, 3, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: inter_region_loss(s, teacher, (areas, areas)), student, atol=1e-6)
    inter_region_loss(student, teacher, (areas, areas)).backward()
    assert student.grad is not None and student.grad.norm() > 0 and teacher.grad is None
    assert not inter_region_loss(student, student, (areas, areas)).any()


def test_links_of_one_grid_share_their_areas() -> None:
    context, loss = context_of(masks(2, 2, 8, 12)), InterRegionKD(num_classes=3)
    loss(maps(0, 2, 4, 4, 6), maps(1, 2, 7, 4, 6), context)
    loss(maps(2, 2, 4, 4, 6), maps(3, 2, 7, 2, 3), context)
    assert sorted(key[3] for key in context._shared) == [(2, 3), (4, 6)]


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match='class 2, but num_classes is 2: count the background'):
        InterRegionKD(num_classes=2)(maps(0, 1, 2, 4, 4), maps(0, 1, 2, 4, 4), context_of(masks(0, 1, 8, 8)))
    with pytest.raises(InputError, match='an odd kernel'):
        InterRegionKD(num_classes=5, kernel=4)
    context = DistillContext(0, {}, {}, {}, [BaseDataElement()], {}, [])
    with pytest.raises(InputError, match='no gt_lane_seg: end the training pipeline in PackLaneInputs'):
        InterRegionKD(num_classes=5)(maps(0, 1, 2, 4, 4), maps(0, 1, 2, 4, 4), context)
