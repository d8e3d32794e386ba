"""tools/test.py --amp computes in bf16, inside the loop of mmengine, which switches off an autocast around itself."""

from __future__ import annotations

import torch
from mmengine.runner.amp import autocast
from torch import Tensor, nn

from perception3d.apis.testing import _test_in_bfloat16


class _Model(nn.Linear):
    def test_step(self, data: Tensor) -> Tensor:
        return self(data)


def test_the_step_runs_in_bfloat16_also_where_the_loop_asks_for_float32() -> None:
    model = _Model(4, 4)
    with autocast(enabled=False):
        assert model.test_step(torch.ones(1, 4)).dtype == torch.float32
        _test_in_bfloat16(model)
        assert model.test_step(torch.ones(1, 4)).dtype == torch.bfloat16
