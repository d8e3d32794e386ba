"""tools/test.py: --video needs a folder; --amp computes in bf16 though the loop of mmengine switches autocast off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.runner.amp import autocast
from torch import Tensor, nn

from perception3d.apis.testing import _test_in_bfloat16
from perception3d.apis.testing import test as run_test
from perception3d.checks import InputError

CONFIG = Path(__file__).resolve().parents[1] / 'plugin' / 'plugin_config.py'


class _Model(nn.Linear):
    def test_step(self, data: Tensor) -> Tensor:
        return self(data)


def test_the_step_runs_in_bfloat16_also_where_the_loop_asks_for_float32() -> None:
    model = _Model(4, 4)
    with autocast(enabled=False):
        assert model.test_step(torch.ones(1, 4)).dtype == torch.float32
        _test_in_bfloat16(model)
        assert model.test_step(torch.ones(1, 4)).dtype == torch.bfloat16


def test_a_video_needs_a_folder_for_its_pictures() -> None:
    with pytest.raises(InputError, match='--show-dir'):
        run_test(str(CONFIG), 'none.pth', video='gif')
