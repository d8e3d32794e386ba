"""Every network of crowds that is shipped learns: few steps on one frame, on a small map, with few channels."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from crowd_parts import batch_of, people_boxes, sample_of
from mmengine.registry import init_default_scope
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.export.onnx_file import write_onnx
from perception3d.registry import MODELS
from perception3d.structures.export_spec import export_spec

_RANGE = {'point_cloud_range': [0, -5.12, -4, 7.68, 5.12, 2]}
_SMALL = {
    **_RANGE,
    'pillar_channels': 8,
    'block_channels': [8, 16, 16],
    'block_layers': [1, 1, 1],
    'neck_channels': 16,
    'head_channels': 8,
}
_STEPS = 8
# Rows (a) to (j) of the grid, then the others. Two frames, and cloud and camera: `test_two_frame`, `test_painting`.
PILLARS = (
    'center_point_pillar_crowd_stride8', 'center_point_pillar_crowd_stride2', 'center_point_pillar_crowd_stride1',
    'dha_d_mean', 'dha_e_max', 'dha_f_learned', 'dha_g_density', 'dha_h_kernel', 'dha_i_weighted', 'dha_pillar',
    'center_point_pillar_crowd_stride4', 'dha_fine',
)  # fmt: skip
OTHERS = ('center_point_voxel_crowd_stride2', 'dha_voxel', 'point_pillars_crowd')


@pytest.fixture(scope='module')
def frame():
    """Six people, two of them side by side."""
    boxes = people_boxes(6, 3).nan_to_num(nan=0.0)
    boxes[:, :2] = torch.tensor([[1.5, -3.0], [1.5, 2.5], [4.0, 0.0], [4.5, 0.3], [6.0, -2.0], [6.5, 3.5]])
    return sample_of(boxes)


@pytest.mark.parametrize('name', [*PILLARS, *OTHERS])
def test_a_network_learns_a_frame(name, frame):
    if 'voxel' in name:
        pytest.importorskip('spconv.pytorch')
    init_default_scope('mmdet3d')
    config = load_config(config_path(f'{name}_256x256_40e_stcrowd'), _SMALL if name in PILLARS else _RANGE)
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    batch = batch_of(frame)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
    totals = []
    for _ in range(_STEPS):
        total, log = model.parse_losses(model(**model.data_preprocessor(copy.deepcopy(batch), True), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        assert all(np.isfinite(float(value)) for value in log.values()), log
        totals.append(float(total))
    assert totals[-1] < 0.7 * totals[0], totals


def test_the_dense_part_of_four_levels_is_exported(tmp_path):
    pytest.importorskip('onnxruntime')
    config = load_config(config_path('dha_fine_256x256_40e_stcrowd'), _SMALL)
    spec = export_spec(MODELS.build(config.model).eval(), None)
    # It compares the file with torch.
    assert write_onnx(spec, tmp_path / 'net.onnx') < 1e-4
    assert [name for name in spec.outputs if name.startswith('levels')] == [f'levels{k}' for k in range(4)]


@pytest.mark.parametrize('name', ['dha_voxel', 'center_point_voxel_crowd_stride2'])
def test_voxels_are_not_exported(name):
    pytest.importorskip('spconv.pytorch')
    model = MODELS.build(load_config(config_path(f'{name}_256x256_40e_stcrowd'), _RANGE).model)
    with pytest.raises(InputError, match=r'VoxelNet has no map of pillars .* sparse convolutions .* no ONNX operator'):
        export_spec(model, None)
