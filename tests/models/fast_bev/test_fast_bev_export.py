"""Fast-BEV as one ONNX file: what onnxruntime computes is what the detector computes on whole samples."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from perception3d.apis.config import load_config
from perception3d.apis.export import export
from perception3d.checks import InputError
from perception3d.models.blocks.camera import follow_ground, sample_planes
from perception3d.models.fast_bev.export import lookup_tables
from perception3d.registry import DATASETS, MODELS
from perception3d.structures.export_spec import export_spec

CONFIGS = Path(__file__).resolve().parents[3] / 'configs/fast_bev'


@pytest.fixture(scope='module')
def single(nuscenes_tree):
    return made(nuscenes_tree, 'fast_bev_tiny_96x352_9e_sim')


@pytest.fixture(scope='module')
def stream(nuscenes_tree):
    return made(nuscenes_tree, 'fast_bev_tiny_4frame_96x352_9e_sim')


def made(tree, name):
    """Config on the hand-made tree, a model with weights, and its data set; images of 48 x 70 are padded to 64 x 96."""
    dataset = 'test_dataloader.dataset'
    paths = {f'{dataset}.ann_file': 'perception3d_infos_hand_val.pkl', f'{dataset}.pipeline.1.final_hw': (48, 70)}
    config = load_config(CONFIGS / f'{name}.py', {'data_root': str(tree), **paths})
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 2)
    return config, model, DATASETS.build(config.test_dataloader['dataset'])


def exported(config, model, folder, exporter):
    """The ONNX session of the model, and what `export` says about it."""
    onnx, onnxruntime = pytest.importorskip('onnx'), pytest.importorskip('onnxruntime')
    if exporter == 'dynamo':
        pytest.importorskip('onnxscript')
    checkpoint, out = folder / 'net.pth', folder / 'net.onnx'
    torch.save(model.state_dict(), checkpoint)
    result = export(config, checkpoint, out, exporter=exporter)
    file = onnx.load(str(out))
    assert {node.domain for node in file.graph.node} <= {'', 'ai.onnx'} and not file.functions
    assert file.opset_import[0].version == (17 if exporter == 'torchscript' else 21)
    assert {entry.key: entry.value for entry in file.metadata_props}['contains'] == result.spec.contains
    assert [path.name for path in folder.iterdir() if path.suffix != '.pth'] == ['net.onnx']
    assert result.difference < 1e-4
    return onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider']), result


def compare(got, expected):
    for name, value, wanted in zip(('logits', 'codes'), got, expected, strict=False):
        assert np.abs(value - wanted.numpy()).max() < 1e-4 * wanted.abs().max(), name


@pytest.mark.parametrize('exporter', ['torchscript', 'dynamo'])
def test_one_frame_with_its_table_inside(single, tmp_path, exporter):
    config, model, dataset = single
    session, result = exported(config, model, tmp_path, exporter)
    images = dataset[0]['inputs']['img']
    assert images.dtype == torch.uint8 and result.inputs == {'images': tuple(images.shape)}
    assert (tmp_path / 'net.onnx').stat().st_size < 2e6
    # Other images of the same rig: nothing of the example is in the file but its calibration.
    batch = pseudo_collate([dataset[0]])
    batch['inputs']['img'] = [images.flip(0)]
    data = model.data_preprocessor(copy.deepcopy(batch))
    with torch.no_grad():
        expected = model(**data, mode='tensor')
        wanted = model.test_step(batch)[0].pred_instances_3d
    outputs = session.run(None, {'images': images.flip(0).numpy()})
    compare(outputs, expected)
    passes = [tuple(torch.from_numpy(value) for value in outputs)]
    found = model.bbox_head.boxes_from_outputs(passes, data['data_samples'])[0]
    assert len(found.scores_3d) == len(wanted.scores_3d) > 10
    torch.testing.assert_close(found.scores_3d, wanted.scores_3d, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('exporter', ['torchscript', 'dynamo'])
def test_a_step_of_a_stream_takes_table_and_history(stream, tmp_path, exporter):
    config, model, dataset = stream
    session, result = exported(config, model, tmp_path, exporter)
    sample = dataset[len(dataset) - 1]
    packed, frames = sample['data_samples'], sample['inputs']['img'].unflatten(0, (4, -1))
    unknown = {name: np.zeros(shape, np.float32) for name, shape in result.inputs.items() if name == 'history'}
    unknown['table'] = np.full(result.inputs['table'], -1, np.int32)
    # As an application: earlier steps give the features that are the history of the last one.
    features = [session.run(['features'], {'images': images.numpy(), **unknown})[0] for images in frames[1:]]
    matrices = packed.metainfo['img_from_lidar'].reshape(1, 4, -1, 4, 4)
    matrices = follow_ground(matrices, sample_planes([packed]), model.ground_z_m)[0]
    (table,) = lookup_tables(model, [torch.from_numpy(features[0])], matrices, (64, 96), (48, 70))
    inputs = {'images': frames[0].numpy(), 'history': np.stack(features), 'table': table.numpy()}
    data = model.data_preprocessor(pseudo_collate([sample]))
    with torch.no_grad():
        expected = model(**data, mode='tensor')
    compare(session.run(None, inputs), expected)
    still = session.run(None, {**inputs, 'history': np.zeros_like(inputs['history'])})
    assert np.abs(still[0] - expected[0].numpy()).max() > 1e-3


def test_a_sample_that_does_not_fit_is_refused(single, stream, tmp_path):
    with pytest.raises(InputError, match='the model takes 4 frames, the sample has 1'):
        export_spec(stream[1], lambda: single[2][0])
    with pytest.raises(InputError, match='sample 99 does not exist: the test data have samples 0 to'):
        export(single[0], None, tmp_path / 'net.onnx', sample=99)
    assert not list(tmp_path.iterdir())


def test_a_model_that_reads_the_mean_of_cameras_is_refused(single):
    _, model, dataset = single
    mean = copy.deepcopy(model)
    mean.view_transforms[0].priority = 'mean'
    with pytest.raises(InputError, match="priority 'mean' has no table of one row per voxel"):
        export_spec(mean, lambda: dataset[0])
