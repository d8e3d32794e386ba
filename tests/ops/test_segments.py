from __future__ import annotations

import torch

from perception3d.ops.segments import segment_max


def _slow(rows, counts):
    return torch.stack([run.max(0).values for run in rows.split(counts.tolist())])


def test_it_is_the_maximum_of_each_run_and_its_gradient():
    torch.manual_seed(0)
    counts = torch.randint(1, 9, (50,))
    rows = torch.randn(int(counts.sum()), 7, requires_grad=True)
    weights = torch.randn(50, 7)
    (segment_max(rows, counts) * weights).sum().backward()
    fast, rows.grad = rows.grad, None
    expected = _slow(rows, counts)
    (expected * weights).sum().backward()
    assert torch.equal(segment_max(rows, counts), expected) and torch.equal(fast, rows.grad)


def test_other_dtypes_take_the_reduction_of_torch():
    counts = torch.tensor([2, 1, 3])
    rows = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(segment_max(rows, counts), _slow(rows, counts))
    assert torch.autograd.gradcheck(lambda r: segment_max(r, counts), rows)


def test_the_first_of_equal_rows_gets_the_gradient():
    rows = torch.ones(3, 1, requires_grad=True)
    segment_max(rows, torch.tensor([3])).sum().backward()
    assert rows.grad.flatten().tolist() == [1, 0, 0]


def test_no_runs_are_no_rows():
    assert segment_max(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)).shape == (0, 4)
