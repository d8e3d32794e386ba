"""tools/test.py: --video needs a folder; --amp computes in bf16 though the loop of mmengine switches autocast off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner.amp import autocast
from torch import Tensor, nn

from perception3d.apis.config import load_config
from perception3d.apis.testing import _only_format, _test_in_bfloat16
from perception3d.apis.testing import test as run_test
from perception3d.checks import InputError
from perception3d.engine import amp
from perception3d.geometry import devices

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


@pytest.mark.parametrize('in_hardware', [True, False])
def test_bfloat16_that_is_slow_is_warned_of(monkeypatch, in_hardware) -> None:
    monkeypatch.setattr(devices, '_processor_has_bfloat16', lambda: in_hardware)
    warned = []
    monkeypatch.setattr(amp, 'print_log', lambda text, **kwargs: warned.append(text))
    _test_in_bfloat16(_Model(4, 4))
    assert warned == [] if in_hardware else 'no bf16 instructions' in warned[0]


def test_a_video_needs_a_folder_for_its_pictures() -> None:
    with pytest.raises(InputError, match='--show-dir'):
        run_test(str(CONFIG), 'none.pth', video='gif')


def test_submission_files_are_asked_of_metrics_that_a_json_config_names(tmp_path) -> None:
    def loaded(*names: str) -> Config:
        content = {'model': {'type': 'FastBEV'}, 'test_evaluator': [{'type': name} for name in names]}
        (tmp_path / 'config.json').write_text(json.dumps(content))
        return load_config(tmp_path / 'config.json')

    folder = str(tmp_path / 'out')
    names = ('KittiFrameMetric', 'NuScenesDetectionMetric', 'SemanticKittiMetric', 'Bdd100kLaneMetric', 'LlamasMetric')
    config = loaded(*names)
    _only_format(config, folder)
    for evaluator in config.test_evaluator:
        assert evaluator['format_only'] and evaluator['format_dir'] == folder
    with pytest.raises(InputError, match='there is no metric NoSuchMetric'):
        _only_format(Config({'test_evaluator': {'type': 'NoSuchMetric'}}), folder)
    with pytest.raises(InputError, match='IndoorMetric writes no submission files'):
        _only_format(loaded('IndoorMetric'), folder)
