"""`DistillContext.shared`: one object for all links of a step, a new one for the next step."""

from __future__ import annotations

import pytest
import torch
from nets import images, net
from torch import nn

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.distiller import Distiller


class SampledGap(nn.Module):
    """Mean squared gap in pixels that are sampled once for all links of a step."""

    samples: list[torch.Tensor] = []

    def forward(self, student, teacher, context):
        rows = context.shared('pixels', lambda: torch.randperm(student[0, 0].numel())[:5])
        SampledGap.samples.append(rows)
        return (student - teacher).flatten(2)[:, :, rows].square().mean()


def link(tap: str) -> dict:
    return dict(student=tap, teacher=tap, loss=dict(type=SampledGap))


def test_all_links_of_a_step_share_and_the_next_step_makes_a_new_one() -> None:
    SampledGap.samples = []
    model = Distiller(net(0), dict(first=link('first'), second=link('second')), teacher=net(1))
    for _ in range(2):
        model.loss(images(), [])
    first, same, second, same_again = SampledGap.samples
    assert first is same and second is same_again
    assert first is not second and not torch.equal(first, second)


def context() -> DistillContext:
    return DistillContext(0, {}, {}, None, [], None, [])


def test_keys_are_apart_and_a_value_may_be_none() -> None:
    calls, shared = [], context().shared
    for key in (('a', 1), ('a', 2), ('a', 1)):
        assert shared(key, lambda key=key: calls.append(key)) is None
    assert calls == [('a', 1), ('a', 2)]
    assert shared('outer', lambda: shared('inner', lambda: 3) + 1) == 4


def test_a_value_in_terms_of_itself_is_an_error_and_leaves_the_key_free() -> None:
    shared = context().shared
    with pytest.raises(InputError, match="shared value 'a' is defined in terms of itself"):
        shared('a', lambda: shared('b', lambda: shared('a', lambda: 1)))
    assert shared('b', lambda: 2) == 2 and shared('a', lambda: 1) == 1
