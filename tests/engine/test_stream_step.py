"""tools/test.py --stream: samples passed through the stream find what whole samples find; what cannot be streamed."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import pseudo_collate

from perception3d.apis import testing
from perception3d.apis.config import load_config
from perception3d.apis.testing import test as run_test
from perception3d.checks import InputError
from perception3d.engine.stream_step import StreamStep
from perception3d.models.bev_transformer.streaming import BEVFormerStream
from perception3d.models.fast_bev.streaming import FastBEVStream
from perception3d.registry import DATASETS, MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CONFIG = CONFIGS / 'fast_bev/fast_bev_tiny_4frame_96x352_9e_sim.py'
BEV_FORMER = CONFIGS / 'bev_former/bev_former_tiny_96x352_9e_sim.py'


@pytest.fixture(scope='module')
def made(nuscenes_tree):
    dataset = 'test_dataloader.dataset'
    options = {
        'data_root': str(nuscenes_tree),
        f'{dataset}.ann_file': 'perception3d_infos_hand_val.pkl',
        f'{dataset}.pipeline.1.final_hw': (32, 64),
    }
    config = load_config(CONFIG, options)
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()
    return config, model, DATASETS.build(config.test_dataloader['dataset'])


def keep_outputs(model) -> list[torch.Tensor]:
    outputs = []
    model.neck_3d.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    return outputs


def test_a_stream_sees_what_whole_samples_see(made):
    _, model, dataset = made
    stream = FastBEVStream(model, (-0.5, -1.0, -1.5))
    step, outputs, expected = StreamStep(stream), keep_outputs(stream.model), keep_outputs(model)
    for i in range(len(dataset)):
        whole, streamed = (run(pseudo_collate([dataset[i]]))[0] for run in (model.test_step, step))
        assert streamed.metainfo['token'] == whole.metainfo['token']
        assert len(streamed.pred_instances_3d) == len(whole.pred_instances_3d)
    assert (expected[1] - expected[0]).abs().max() > 0.01
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match='a frame is older'):
        step(pseudo_collate([dataset[0]]))
    other = dataset[0]
    other['data_samples'].set_metainfo({'scene_token': 'another'})
    step(pseudo_collate([other]))
    with pytest.raises(InputError, match='scene that was left before.*shuffling'):
        step(pseudo_collate([dataset[0]]))


def test_the_tool_scores_the_stream(made, tmp_path, monkeypatch):
    config, model, _ = made
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'random.pth')
    steps = []
    call = StreamStep.__call__
    monkeypatch.setattr(StreamStep, '__call__', lambda self, data: steps.append(self.stream) or call(self, data))
    run = partial(run_test, checkpoint=tmp_path / 'random.pth', work_dir=str(tmp_path / 'log'), stream=True)
    metrics = run(copy.deepcopy(config), amp=True, out=tmp_path / 'metrics.json')
    assert len(steps) == 2 and steps[0].dtype == torch.bfloat16 and steps[0].offsets_s == (-0.5, -1.0, -1.5)
    assert json.loads((tmp_path / 'metrics.json').read_text())['nuscenes/NDS'] == metrics['nuscenes/NDS']
    flipped = copy.deepcopy(config)
    flipped.model.flip_tta = True
    with pytest.raises(InputError, match='without test-time augmentation'):
        run(flipped)


def test_a_bev_former_is_streamed_frame_by_frame(nuscenes_tree, tmp_path, monkeypatch):
    dataset = 'test_dataloader.dataset'
    options = {
        'data_root': str(nuscenes_tree),
        f'{dataset}.ann_file': 'perception3d_infos_hand_val.pkl',
        f'{dataset}.pipeline.1.final_hw': (32, 64),
    }
    config = load_config(BEV_FORMER, options)
    config.model.encoder.num_cams = 4
    # Samples of two frames: the stream takes the present one.
    config.test_dataloader.dataset.num_frames = 2
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()
    samples = DATASETS.build(config.test_dataloader['dataset'])
    hand = BEVFormerStream(model)
    expected = []
    for data in (samples[i] for i in range(len(samples))):
        images, meta = data['inputs']['img'], dict(data['data_samples'].metainfo)
        count = len(images) // 2
        meta |= {'num_frames': 1, **{key: meta[key][:count] for key in ('img_from_lidar', 'img_timestamps_s')}}
        expected.append(hand.step(images[:count], meta))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'random.pth')
    results = []
    call = StreamStep.__call__
    monkeypatch.setattr(StreamStep, '__call__', lambda self, data: results.extend(out := call(self, data)) or out)
    run = partial(run_test, checkpoint=tmp_path / 'random.pth', work_dir=str(tmp_path / 'log'), stream=True)
    run(copy.deepcopy(config))
    assert len(results) == len(expected) > 1
    for got, wanted in zip(results, expected, strict=True):
        assert len(wanted.scores_3d)
        torch.testing.assert_close(got.pred_instances_3d.scores_3d, wanted.scores_3d)
        torch.testing.assert_close(got.pred_instances_3d.bboxes_3d.tensor, wanted.bboxes_3d.tensor)
    # The memory counts: the second frame by itself is another map.
    alone = BEVFormerStream(model)
    data = samples[1]
    first = alone.step_sample(data['inputs']['img'], data['data_samples'].metainfo)
    assert not torch.equal(first.scores_3d, expected[1].scores_3d)


def test_a_model_without_a_stream_is_refused_by_name(tmp_path):
    model = torch.nn.Linear(1, 1)
    runner = SimpleNamespace(model=model, distributed=False)
    with pytest.raises(InputError, match='Linear cannot run frame by frame: it has no method stream'):
        testing._test_as_stream(runner, torch.float32, False)
