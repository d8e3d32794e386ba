from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.models.detectors import VoxelNet
from mmengine.config import Config
from tiny_lidar import shrink_to

from perception3d.apis.export import export
from perception3d.checks import InputError
from perception3d.export.onnx_file import write_onnx
from perception3d.registry import MODELS
from perception3d.structures.export_spec import ExportInput, ExportSpec, export_spec
from tools import export_onnx

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
MODELS_FOLDER = CONFIGS / '_base_' / 'models'


def _config(name, cells):
    config = Config.fromfile(MODELS_FOLDER / f'{name}.py')
    shrink_to(config.model, *cells)
    return config


def test_onnxruntime_agrees_with_torch_on_the_dense_part_of_point_pillars(tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    config = _config('../../point_pillars/point_pillars_secfpn_c16_160e_kitti', (32, 48))
    checkpoint, out = tmp_path / 'net.pth', tmp_path / 'net.onnx'
    torch.manual_seed(3)
    model = MODELS.build(config.model).eval()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(std=0.3), part.running_var.uniform_(0.5, 2.0)
    torch.save(model.state_dict(), checkpoint)
    result = export(config, checkpoint, out)
    assert result.inputs == {'pillars': (1, 16, 32, 48)} and result.spec.outputs == ('scores', 'boxes', 'directions')
    assert result.difference < 1e-4
    # The unfolded detector itself on another input, so that weights and norms are those of the checkpoint.
    canvas = torch.randn(1, 16, 32, 48)
    with torch.no_grad():
        wanted = [levels[0].numpy() for levels in model.bbox_head(model.neck(model.backbone(canvas)))]
    got = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider']).run(
        None, {'pillars': canvas.numpy()}
    )
    for a, b in zip(wanted, got, strict=True):
        assert np.abs(a - b).max() < 1e-4 * max(1.0, np.abs(a).max())


def test_the_outputs_of_center_point_are_named_by_task():
    model = MODELS.build(_config('center_point_pillar', (16, 16)).model)
    names = export_spec(model, None).outputs
    assert names[0] == 'task0_reg' and 'task5_heatmap' in names and len(names) == 36 == len(set(names))


@pytest.mark.parametrize('name', ['second_secfpn', 'point_rcnn'])
def test_what_has_no_dense_part_is_refused_with_the_reason(name, tmp_path):
    config = Config.fromfile(MODELS_FOLDER / f'{name}.py')
    with pytest.raises(InputError, match='no ONNX operator'):
        export(config, None, tmp_path / 'net.onnx')
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_specification_is_refused_with_the_reason():
    with pytest.raises(InputError, match='ReLU cannot be exported: it has no method export_spec'):
        export_spec(torch.nn.ReLU(), None)


def test_a_detector_s_own_specification_comes_before_that_of_its_class():
    class Own(VoxelNet):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def export_spec(self, read_sample):
            return ExportSpec(self, (), (), read_sample(), '', '')

    assert export_spec(Own(), lambda: 'own').contains == 'own'


def test_the_old_command_says_the_new_name(capsys):
    with pytest.raises(SystemExit) as ended:
        export_onnx.main(['--help'])
    printed = capsys.readouterr()
    assert ended.value.code == 0 and 'is the old name of tools/export.py' in printed.err and '--exporter' in printed.out


class _Noise(torch.nn.Module):
    """Gives another answer in each call."""

    def __init__(self, add=0.0):
        super().__init__()
        self.add = add

    def forward(self, x):
        return x, x * torch.rand(64) + self.add


@pytest.mark.parametrize(
    ('missing', 'exporter', 'user'), [('onnx', 'torchscript', 'export'), ('onnxscript', 'dynamo', 'dynamo')]
)
def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch, missing, exporter, user):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == missing else find(name))
    spec = ExportSpec(torch.nn.ReLU(), (ExportInput('x', torch.rand(4), 'numbers'),), ('y',), '', '', '')
    with pytest.raises(InputError, match=rf'{user}.* needs {missing}, which is not installed: pip install .*deploy'):
        write_onnx(spec, tmp_path / 'net.onnx', exporter)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('add', [0.0, float('nan')])
def test_a_file_that_computes_something_else_is_refused(tmp_path, add):
    pytest.importorskip('onnxruntime')
    noise = _Noise(add).eval()
    spec = ExportSpec(noise, (ExportInput('x', torch.rand(64), 'numbers'),), ('same', 'noise'), '', '', '')
    with pytest.raises(InputError, match='net.onnx differs from torch by .* expected 1e-04 or less'):
        write_onnx(spec, tmp_path / 'net.onnx')
    assert not list(tmp_path.iterdir())
