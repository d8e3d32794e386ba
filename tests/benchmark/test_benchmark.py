from __future__ import annotations

import json
import math
import mmap
import sys
from pathlib import Path

import pytest
import torch
from mmdet3d.models.detectors import CenterPoint, PointRCNN, VoxelNet
from mmengine.logging import MessageHub

from perception3d.apis.config import load_config
from perception3d.benchmark import distill as benchmark_distill_file
from perception3d.benchmark.distill import benchmark_distill
from perception3d.benchmark.fast_bev import (
    benchmark_released,
    benchmark_stream,
    benchmark_view,
    box_difference,
    drive,
    prepare_model,
)
from perception3d.benchmark.model import SparseMacs, benchmark_model
from perception3d.benchmark.report import markdown_table
from perception3d.benchmark.timing import PartTimer, added_mib, peak_memory
from perception3d.checks import InputError
from perception3d.models.fast_bev import view_transform
from perception3d.models.lidar_det.network_mode import network_mode
from perception3d.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def config():
    config = load_config(ROOT / 'configs' / 'fast_bev' / 'fast_bev_tiny_96x352_free_anchor_9e_sim.py')
    config.model.grids[0].shape = (40, 40, 4)
    config.num_frames = 2
    config.model.neck_3d.fuse_channels = config.model.neck_fuse.out_channels * 4 * 2
    return config


def test_view_compares_equal_things(config):
    row = benchmark_view(config, 'fp32', CPU, runs=1)
    assert row['values that differ'] < 1e-3
    assert row['output MiB'] == 2 * 4 * config.model.neck_fuse.out_channels * 40 * 40 * 4 / 2**20
    assert row['times faster'] == pytest.approx(row['released ms'] / row['both ms'])


def test_stream_and_released_way_are_the_same_network(config):
    torch.manual_seed(0)
    model = prepare_model(MODELS.build(config.model))
    frames = drive(tuple(config.image_hw), 6)
    released = benchmark_released(model, [frames[5], frames[4]], 'fp32', CPU, runs=1)
    stream = benchmark_stream(model, frames, 2, 'fp32', CPU)
    torch.testing.assert_close(stream['bev'], released['bev'], rtol=1e-4, atol=1e-4)
    difference = box_difference(model, released['bev'], stream['bev'])
    assert difference['box difference'] < 1e-3 and difference['score difference'] < 1e-4
    assert difference['headings turned'] < 1e-3
    assert set(stream['parts']) > {'2D network', 'lookup table', 'gather', 'BEV encoder', 'head'}
    assert set(released['parts']) > {'2D network', 'view transformation', 'BEV encoder', 'head'}
    assert stream['peak_mib'] > 0


def test_the_lookup_table_is_measured_when_it_is_filled_again(config, monkeypatch):
    filled = []
    fill = view_transform.build_frames_lut
    monkeypatch.setattr(view_transform, 'build_frames_lut', lambda *args: filled.append(fill(*args)))
    benchmark_view(config, 'fp32', CPU, runs=3)
    # Two calls before the measurements, then the table alone and both, each with a call to warm up, and a first call.
    assert len(filled) == 2 + 2 * (1 + 3) + 1


def test_a_head_that_cannot_be_measured_is_refused(config):
    model = MODELS.build(config.model)
    model.bbox_head = torch.nn.Identity()
    with pytest.raises(InputError, match='the head of this config cannot be measured: expected one with'):
        prepare_model(model)


def test_peak_memory_counts_what_was_held_and_freed():
    with peak_memory(CPU) as before:
        torch.zeros(1)
    with peak_memory(CPU) as during:
        # Straight from the system: a tensor may get memory that the process has kept.
        with mmap.mmap(-1, 64 * 2**20) as block:
            block.write(b'1' * len(block))
    assert during['peak_mib'] >= before['peak_mib'] + 32


def test_added_memory_is_what_a_call_needs_at_most_on_top_of_what_is_held():
    def take(mib: int) -> mmap.mmap:
        # Straight from the system, and written piece by piece: what is copied in needs memory, too.
        block = mmap.mmap(-1, mib * 2**20)
        for _ in range(mib):
            block.write(b'1' * 2**20)
        return block

    def call():
        for _ in range(2):
            take(32).close()

    held = take(64)
    assert 24 < added_mib(call, CPU) < 48
    held.close()


def test_parts_are_timed_call_by_call():
    class Work:
        def step(self, number: int) -> int:
            return number + 1

    work, timer = Work(), PartTimer()
    timer.wrap(work, 'step', 'a step')
    assert [work.step(1), work.step(number=2)] == [2, 3]
    assert len(timer.times_ms['a step']) == 2
    assert timer.medians_ms()['a step'] >= 0


def test_tables_read_well():
    rows = [{'what': 'gather', 'ms': 12.345}, {'what': 'copy', 'ms': 1234.5}]
    assert markdown_table(rows) == '| what | ms |\n|---|---|\n| gather | 12.3 |\n| copy | 1234 |'


def test_the_command_writes_both_files(config, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    monkeypatch.delitem(sys.modules, 'benchmark', raising=False)
    import benchmark

    path = ROOT / 'configs' / 'fast_bev' / 'fast_bev_tiny_96x352_9e_sim.py'
    wrong = ROOT / 'tests' / 'plugin' / 'plugin_config.py'
    with pytest.raises(InputError, match='is not a Fast-BEV config'):
        benchmark.main([str(wrong), '--part', 'view', '--out', str(tmp_path)])
    arguments = [str(path), '--part', 'view', '--runs', '1', '--dtypes', 'fp32', '--device', 'cpu']
    assert benchmark.main([*arguments, '--out', str(tmp_path)]) == 0
    content = json.loads((tmp_path / 'benchmark_view.json').read_text())
    assert content['machine']['torch'] == torch.__version__
    assert content['command'].startswith('python tools/benchmark.py ') and '--runs 1' in content['command']
    assert 'tiny_96x352_9e_sim' in (tmp_path / 'benchmark_view.md').read_text()


def test_a_distillation_step_is_compared_with_its_parts():
    row = benchmark_distill(load_config(ROOT / 'tests' / 'plugin' / 'distill_config.py'), CPU, runs=2)
    parts = row['student step ms'] + row['teacher forward ms']
    assert row['more than the sum'] == f'{row["distillation step ms"] / parts - 1:+.1%}'
    assert row['more than in a row'] == f'{row["distillation step ms"] / row["both in a row ms"] - 1:+.1%}'
    with pytest.raises(InputError, match='is not a distillation: expected a model with student, teacher and links'):
        benchmark_distill(load_config(ROOT / 'tests' / 'plugin' / 'plugin_config.py'), CPU, runs=1)


def test_links_that_skip_iterations_are_measured_until_all_repeat(monkeypatch):
    config = load_config(ROOT / 'tests' / 'plugin' / 'distill_config.py')
    config.model.links.hidden.every = 2
    seen = []

    def fake_time(step):
        seen.append(MessageHub.get_current_instance().get_info('iter'))
        return 10.0 if seen[-1] == 0 else 4.0

    monkeypatch.setattr(benchmark_distill_file, 'elapsed_ms', fake_time)
    row = benchmark_distill(config, CPU, runs=3)
    # Links of every second and of every third iteration repeat after six.
    assert row['distillation step ms'] == (10 + 5 * 4) / 6
    # Twice six iterations to warm up and three times six that count, four steps an iteration.
    assert seen == [iteration for iteration in range(6) for _ in range(4)] * 5


def test_size_and_latency_of_a_model():
    config = load_config(ROOT / 'tests' / 'plugin' / 'plugin_config.py')
    row = benchmark_model(config, CPU, runs=1)
    # Layers of 2 x 16 and 16 x 2 with their biases; 16 points of one sample pass them.
    assert row['parameters, M'] * 1e6 == pytest.approx(2 * 16 + 16 + 16 * 2 + 2)
    assert row['GMACs'] * 1e9 == pytest.approx(16 * (2 * 16 + 16 * 2))
    assert row['latency ms'] > 0
    del config._cfg_dict['test_dataloader']
    with pytest.raises(InputError, match='no test_dataloader'):
        benchmark_model(config, CPU, runs=1)


@pytest.mark.parametrize(
    'cls, mode', [(VoxelNet, 'tensor'), (CenterPoint, 'predict'), (PointRCNN, 'predict'), (torch.nn.Identity, 'tensor')]
)
def test_a_network_runs_without_decoding_where_its_class_can(cls, mode):
    assert network_mode(cls.__new__(cls)) == mode


@pytest.mark.parametrize('name', ['SubMConv3d', 'SparseConv3d'])
def test_sparse_convolutions_are_counted_by_the_pairs_that_they_multiply(name):
    spconv = pytest.importorskip('spconv.pytorch')
    torch.manual_seed(0)
    stride = 1 if name == 'SubMConv3d' else 2
    conv = getattr(spconv, name)(3, 4, 3, stride=stride, padding=1, bias=False, indice_key='a')
    cells = torch.randperm(5 * 6 * 7)[:60]
    indices = torch.stack([torch.zeros(60), cells // 42, cells // 7 % 6, cells % 7], 1).int()
    occupied = torch.zeros(1, 1, 5, 6, 7)
    occupied.view(-1)[cells] = 1
    with SparseMacs(conv) as count:
        conv(spconv.SparseConvTensor(torch.randn(60, 3), indices, [5, 6, 7], 1))
    # A kernel of ones on the occupied cells counts the neighbours of each output.
    neighbours = torch.nn.functional.conv3d(occupied, torch.ones(1, 1, 3, 3, 3), stride=stride, padding=1)
    pairs = (neighbours * occupied).sum() if name == 'SubMConv3d' else neighbours.sum()
    assert count.total == int(pairs) * 3 * 4


def test_sparse_convolutions_without_pairs_are_not_counted_as_nothing():
    spconv = pytest.importorskip('spconv.pytorch')
    conv = spconv.SubMConv3d(3, 4, 3, bias=False, indice_key='a')
    # What spconv keeps of its implicit GEMM on a GPU has no list of pairs.
    conv.register_forward_hook(lambda module, inputs, output: output.indice_dict.update(a=object()))
    with SparseMacs(conv) as count, pytest.warns(UserWarning, match='on the CPU') as seen:
        for _ in range(2):
            conv(spconv.SparseConvTensor(torch.randn(1, 3), torch.zeros(1, 4).int(), [5, 6, 7], 1))
    assert math.isnan(count.total) and len(seen) == 1
