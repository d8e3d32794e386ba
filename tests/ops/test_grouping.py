"""Points grouped by cell, against plain loops and torch's own gradients."""

from __future__ import annotations

import pytest
import torch

from perception3d.ops.grouping import group_cells, group_max, group_mean, majority_labels

ROWS = torch.tensor([2, 0, 2, 1, 0, 2, 1])


def test_cells_are_numbered_in_order():
    cells = torch.tensor([[1, 0, 3], [0, 2, 1], [1, 0, 3], [0, 0, 4], [1, 0, 2]], dtype=torch.int32)
    found, rows = group_cells(cells, (2, 3, 5))
    assert found.tolist() == [[0, 0, 4], [0, 2, 1], [1, 0, 2], [1, 0, 3]] and found.dtype == torch.int32
    assert rows.tolist() == [3, 1, 3, 0, 2]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_the_maximum_and_its_gradient(dtype):
    values = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    best = group_max(values, ROWS, 3)
    wanted = torch.stack([values[row == ROWS].amax(0) for row in range(3)])
    assert torch.equal(best, wanted) and best.dtype == dtype
    weights = torch.arange(1.0, 10).view(3, 3).to(dtype)
    (given,) = torch.autograd.grad((best * weights).sum(), values)
    (expected,) = torch.autograd.grad((wanted * weights).sum(), values)
    assert torch.equal(given, expected)


def test_the_first_of_equal_points_gets_the_gradient():
    values = torch.ones(7, 1, requires_grad=True)
    group_max(values, ROWS, 3).sum().backward()
    assert values.grad[:, 0].tolist() == [1, 1, 0, 1, 0, 0, 0]
    # Where nothing beats -inf, nobody does.
    lost = torch.full((7, 1), torch.nan, requires_grad=True)
    group_max(lost, ROWS, 3).sum().backward()
    assert not lost.grad.any()


def test_the_mean_of_a_row_without_points_is_zero():
    values = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    means = group_mean(values, ROWS, 4)
    assert torch.allclose(means[:3], torch.stack([values[row == ROWS].mean(0) for row in range(3)]))
    assert means[3].tolist() == [0, 0]


def test_ties_go_to_the_smaller_class_and_to_ignore_only_on_request():
    rows = torch.tensor([0, 0, 1, 1, 2, 2, 2])
    labels = torch.tensor([5, 3, 9, 1, 9, 9, 0])
    assert majority_labels(labels, rows, 3, ignore=9).tolist() == [3, 1, 9]
    assert majority_labels(labels, rows, 3, ignore=9, ignore_wins=True).tolist() == [3, 9, 9]
