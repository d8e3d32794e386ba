"""The smallest values of rows against torch's sort."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import Tensor

from perception3d.checks import InputError
from perception3d.ops import smallest
from perception3d.ops.smallest import smallest_columns


def rows_of(kind: str, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(width)
    values = torch.randn(40, width, generator=generator)
    column = torch.arange(width).float()
    return {
        'random': values,
        'few levels': values.mul(2).round(),
        'constant': torch.zeros(3, width),
        'falling': -column.repeat(2, 1),
        'rising': column.repeat(2, 1),
        # The small ones are all in one lane, or in one block.
        'periodic': (column % 16).repeat(2, 1) + values[:2] * 1e-3,
        'a basin': (column - width // 2).abs().repeat(2, 1),
        'infinite': torch.where(values > 0, torch.inf, -torch.inf),
    }[kind]


def stable(values: Tensor, k: int) -> Tensor:
    """The first k columns of a stable sort, in order of columns."""
    return values.sort(dim=1, stable=True).indices[:, :k].sort(1).values


@pytest.mark.parametrize(
    'kind', ['random', 'few levels', 'constant', 'falling', 'rising', 'periodic', 'a basin', 'infinite']
)
def test_columns_are_the_first_ones_of_a_stable_sort(kind: str) -> None:
    for width, ks in ((1, (1,)), (7, (1, 3, 7)), (1000, (1, 4, 32, 249, 250, 999, 1000))):
        values = rows_of(kind, width)
        for k in ks:
            for dtype in (torch.float32, torch.float64):
                assert torch.equal(smallest_columns(values.to(dtype), k), stable(values, k)), (width, k)


def test_rows_on_several_threads_and_rows_that_lie_apart_give_the_same() -> None:
    values = rows_of('random', 500)
    out = np.empty((40, 6), np.int64)
    smallest._select_parallel(values.numpy(), out)
    assert torch.equal(torch.from_numpy(out), stable(values, 6))
    assert torch.equal(smallest_columns(values.T.contiguous().T.requires_grad_(), 6), stable(values, 6))
    assert torch.equal(smallest_columns(values.bfloat16(), 6), stable(values.bfloat16().float(), 6))


def test_nan_is_never_small() -> None:
    values = torch.tensor([[torch.nan, 3, 1, torch.nan, 2], [torch.nan] * 4 + [5], [torch.nan] * 5])
    assert smallest_columns(values, 3).tolist() == [[1, 2, 4], [4, 0, 0], [0, 0, 0]]


def test_no_rows_give_no_columns() -> None:
    assert smallest_columns(torch.empty(0, 5), 3).shape == (0, 3)


def test_a_fork_may_search_after_its_parent_used_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    values, out = rows_of('random', 500), np.empty((40, 6), np.int64)
    smallest._select_parallel(values.numpy(), out)
    monkeypatch.setattr(smallest, '_PARALLEL_VALUES', 0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            code = int(not np.array_equal(smallest_columns(values, 6).numpy(), out))
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize('shape, k', [((3, 4), 5), ((3, 4), 0), ((4,), 2)])
def test_shapes_that_do_not_go_together_are_named(shape: tuple[int, ...], k: int) -> None:
    with pytest.raises(InputError, match='expected values'):
        smallest_columns(torch.zeros(shape), k)
