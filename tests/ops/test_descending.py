import pytest
import torch

from perception3d.checks import InputError
from perception3d.ops.descending import descending_order


@pytest.mark.parametrize('shape', [(1, 1), (3, 0), (0, 4), (19, 1000)])
def test_the_order_is_that_of_torch(shape):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0)) ** 8
    order = descending_order(values)
    assert order.dtype == torch.int64
    assert torch.equal(values.gather(1, order), values.sort(1, descending=True).values)
    assert torch.equal(order.sort(1).values, torch.arange(shape[1]).expand(shape))


def test_special_values_have_their_place():
    values = torch.tensor([[0.0, 1e-45, torch.inf, -0.0, 1.0, torch.nan, 0.5]])
    order = descending_order(values)[0].tolist()
    assert order[:5] == [5, 2, 4, 6, 1]
    assert sorted(order[5:]) == [0, 3]
    # A gradient and memory that is not contiguous change nothing.
    twin = torch.rand(50, 7).t().requires_grad_()
    assert torch.equal(twin.gather(1, descending_order(twin)), twin.sort(1, descending=True).values)


@pytest.mark.parametrize('values', [torch.rand(3), torch.rand(2, 2).double(), torch.tensor([[0.5, -0.5]])])
def test_other_values_are_refused(values):
    with pytest.raises(InputError, match='expected'):
        descending_order(values)
