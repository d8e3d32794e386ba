"""Two processes with half the batch each take the step that one process takes with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from free_port import free_port
from torch import multiprocessing, nn

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'tests' / 'plugin' / 'plugin_config.py'
FAST_BEV = ROOT / 'configs' / 'fast_bev'


def test_torchrun_trains_a_config_to_the_weights_of_one_process(tmp_path):
    options = ['+model.dropout=0.0', 'train_cfg.max_epochs=1', 'custom_hooks=[]', 'default_hooks.checkpoint.interval=6']
    train = [str(ROOT / 'tools' / 'train.py'), str(CONFIG)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    one = [sys.executable, *train, '--work-dir', str(tmp_path / 'one'), '--cfg-options', *options]
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={free_port()}']
    two = [*torchrun, *train, '--work-dir', str(tmp_path / 'two'), '--launcher', 'pytorch', '--cfg-options', *options]
    for command in (one, [*two, 'train_dataloader.batch_size=2']):
        out = subprocess.run(command, capture_output=True, text=True, env=environment, cwd='/', timeout=300)
        assert out.returncode == 0, out.stderr[-2000:]
    weights = [torch.load(tmp_path / name / 'iter_6.pth', weights_only=False)['state_dict'] for name in ('one', 'two')]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-5, atol=1e-6)


LEAVE = """
import os, socket, sys
from torch import distributed
from perception3d.engine.distributed import start_processes
os.environ.update(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1')
for round_ in range(6):
    children = []
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port = listener.getsockname()[1]
    for rank in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), MASTER_PORT=str(port))
            start_processes('pytorch')
            # The threads of gloo now wait for Python until it is taken down, as they may on a busy machine.
            sys.setswitchinterval(10)
            for _ in range(20):
                distributed.broadcast_object_list([list(range(1000))], 0)
            if round_ % 2:
                # As where something keeps the group, so that its threads are not joined.
                distributed.destroy_process_group = lambda: None
            sys.exit(0)
    print(*(os.waitpid(child, 0)[1] for child in children), flush=True)
"""


def test_a_process_that_ends_right_after_a_collective_does_not_abort():
    out = subprocess.run([sys.executable, '-c', LEAVE], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert out.stdout.split() == ['0'] * 12, out.stderr[-2000:]


def _tiny_model(config):
    from mmengine.registry import init_default_scope

    from perception3d.registry import MODELS

    init_default_scope('mmdet3d')
    torch.manual_seed(0)
    return MODELS.build(config.model).double()


def _sample(number):
    """Returns the inputs of one sample: three cameras that look around, noise images, and `number` + 1 boxes."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    rng = np.random.default_rng(number)
    intrinsics = np.array([[60.0, 0, 64, 0], [0, 60, 32, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    matrices = []
    for angle in np.arange(3) * np.pi * 2 / 3:
        right, forward = [np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]
        rotation = np.eye(4)
        rotation[:3, :3] = [right, [0, 0, -1], forward]
        matrices.append(intrinsics @ rotation)
    boxes = np.concatenate(
        [rng.uniform(-30, 30, (number + 1, 2)), np.tile([-1, 4, 2, 1.6, 0.3, 1, 0], (number + 1, 1))], 1
    )
    sample = Det3DDataSample()
    ego_from_lidar = np.eye(4)
    ego_from_lidar[2, 3] = 1.84 + 0.1 * number
    sample.set_metainfo(
        {
            'img_from_lidar': np.stack(matrices),
            'ego_from_lidar': ego_from_lidar,
            'num_frames': 1,
            'box_type_3d': LiDARInstance3DBoxes,
        }
    )
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(torch.tensor(boxes, dtype=torch.float32), box_dim=9),
        labels_3d=torch.full((number + 1,), number % 10),
    )
    return torch.tensor(rng.normal(size=(3, 3, 64, 128))), sample


# Config of the tiny Fast-BEV, whether it is in train mode, sync_bn.
STEPS = [
    *((f'fast_bev_tiny_96x352_{head}9e_sim.py', True, 'torch') for head in ('', 'free_anchor_')),
    # As the released backbone trains: frozen statistics need no other process.
    *((f'fast_bev_tiny_96x352_{head}9e_sim.py', False, None) for head in ('', 'free_anchor_')),
]
ALONE = ('fast_bev_tiny_96x352_9e_sim.py', True, None)


def _take_steps(rank, world_size, port, folder):
    """Writes folder/<number>.pt, gradients and buffers after each of STEPS and ALONE on every `world_size`-th sample.

    And folder/points.pt after one of a LiDAR segmentor, folder/norm_<rank>.pt: what batch norm alone makes of unequal
    shares.
    """
    if world_size > 1:
        torch.set_num_threads(1)
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR='127.0.0.1', MASTER_PORT=port
        )
        from perception3d.engine.distributed import start_processes

        start_processes('pytorch')
    from perception3d.apis.config import load_config
    from perception3d.engine.runner import PerceptionRunner

    for number, (name, training, sync_bn) in enumerate([*STEPS, ALONE]):
        config = load_config(FAST_BEV / name)
        model = _tiny_model(config).train(training)
        if world_size > 1:
            runner = SimpleNamespace(distributed=True, cfg={**config, 'sync_bn': sync_bn})
            model = PerceptionRunner.wrap_model(runner, None, model)
        images, samples = zip(*(_sample(number) for number in range(rank, 4, world_size)))
        losses = model({'imgs': torch.stack(images)}, list(samples), mode='loss')
        sum(losses.values()).backward()
        if rank == 0:
            made = {n: p.grad for n, p in model.named_parameters()} | dict(model.named_buffers())
            torch.save({n.removeprefix('module.'): v for n, v in made.items()}, Path(folder) / f'{number}.pt')
    _step_of_points(rank, world_size, folder)
    torch.save(_normalise(slice(None) if world_size == 1 else UNEQUAL[rank]), Path(folder) / f'norm_{rank}.pt')


def _step_of_points(rank, world_size, folder):
    """Writes folder/points.pt: a step of a small Cylinder3D on turned copies of a cloud, with labels of their own.

    They have equal numbers of points and voxels, since losses are means over those of a process.
    """
    from perception3d.engine.runner import PerceptionRunner
    from tests.models.lidar_seg.seg_parts import CLASSES, GRID, batch, segmentor

    # The border of the published grid has cells of its own, so that the range is divided by one less.
    shape = [n - 1 for n in GRID]
    chosen = torch.randperm(shape[0] * shape[1] * shape[2], generator=torch.Generator().manual_seed(0))[:150]
    # In the middle of a cell, since the edge of one is a matter of rounding.
    cells = torch.stack(torch.unravel_index(chosen, shape), 1)
    rho, turn, height = ((cells + 0.5) / torch.tensor(shape)).T
    data = batch((150,) * 4)
    for k, cloud in enumerate(data['inputs']['points']):
        angle = 2 * torch.pi * (turn + 3 * k / shape[1] - 0.5)
        cloud[:, :3] = torch.stack([10 * rho * angle.cos(), 10 * rho * angle.sin(), 5 * height - 3], 1)
        data['data_samples'][k].gt_pts_seg.pts_semantic_mask = (chosen + k) % CLASSES
    model = segmentor({of: dict(of=of, type='WeightedCrossEntropy') for of in ('voxel', 'point')}).double().train()
    if world_size > 1:
        runner = SimpleNamespace(distributed=True, cfg={'sync_bn': 'torch'})
        model = PerceptionRunner.wrap_model(runner, None, model)
    share = {'inputs': {'points': data['inputs']['points'][rank::world_size]}}
    share['data_samples'] = data['data_samples'][rank::world_size]
    inner = getattr(model, 'module', model)
    prepared = inner.data_preprocessor(share, True)
    voxels = prepared['inputs']['voxels']
    assert len(voxels.coords) == 150 * len(voxels.point_counts)
    prepared['inputs']['voxels'] = replace(voxels, features=voxels.features.double())
    sum(model(**prepared, mode='loss').values()).backward()
    if rank == 0:
        made = {n: p.grad for n, p in inner.named_parameters()} | dict(inner.named_buffers())
        torch.save(made, Path(folder) / 'points.pt')


UNEQUAL = (slice(0, 1), slice(1, 4))


def _normalise(share):
    """The results of two steps with every class of batch norms, and the gradients, for a share of the batch."""
    from perception3d.engine.sync_norm import ProcessBatchNorm, join_batch_norms

    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 4, 3, 5, 6, generator=generator) * 2 + 1000
    weights = torch.randn(2, 4, 3, 5, 6, generator=generator)
    plain = {
        'usual': nn.BatchNorm2d(3, eps=1e-3, momentum=0.01),
        'mean': nn.BatchNorm2d(3, momentum=None),
        'bare': nn.BatchNorm2d(3, affine=False, track_running_stats=False),
    }
    norms = join_batch_norms(nn.ModuleDict(plain))
    assert all(isinstance(norm, ProcessBatchNorm) for norm in norms.values())
    made = {}
    for name, norm in norms.items():
        for step in range(2):
            x = maps[step][share].clone().requires_grad_()
            out = norm(x)
            (out * weights[step][share]).sum().backward()
            made[f'{name} {step}'], made[f'{name} gradient {step}'] = out.detach(), x.grad
        made[f'{name} shared'] = [*(p.grad for p in norm.parameters()), *norm.buffers()]
    half = norms['usual'](maps[0][share].bfloat16())
    assert half.dtype == torch.bfloat16
    return made


@pytest.fixture(scope='module')
def steps(tmp_path_factory):
    """Two folders: what one process made, and what two made."""
    one, two = tmp_path_factory.mktemp('one'), tmp_path_factory.mktemp('two')
    _take_steps(0, 1, '', str(one))
    multiprocessing.spawn(_take_steps, (2, str(free_port()), str(two)), nprocs=2)
    return one, two


def _differences(steps, number):
    """The largest difference of each gradient and buffer, as a share of its size where that is above 1."""
    one, two = (torch.load(folder / f'{number}.pt') for folder in steps)
    assert one.keys() == two.keys() and len(one) > 50
    return {n: float((two[n] - v).abs().max() / v.abs().max().clamp(min=1)) for n, v in one.items()}


@pytest.mark.parametrize('number', range(len(STEPS)))
def test_a_step_of_fast_bev_is_that_of_one_process(steps, number):
    # The samples hold 1 to 4 objects, so that a loss normalised in each process alone would differ.
    different = _differences(steps, number)
    assert {name: size for name, size in different.items() if not size < 1e-5} == {}


def test_a_step_of_a_lidar_segmentor_is_that_of_one_process(steps):
    different = _differences(steps, 'points')
    assert {name: size for name, size in different.items() if not size < 1e-5} == {}


def test_without_sync_bn_each_process_has_statistics_of_its_own(steps):
    different = _differences(steps, len(STEPS))
    assert max(size for name, size in different.items() if 'running' in name) > 1e-3
    assert max(size for name, size in different.items() if name.endswith('weight')) > 1e-3


def test_batch_norm_over_processes_of_unequal_shares_is_that_of_the_whole_batch(steps):
    one, two = torch.load(steps[0] / 'norm_0.pt'), [torch.load(steps[1] / f'norm_{rank}.pt') for rank in range(2)]
    for name, whole in one.items():
        if not name.endswith('shared'):
            torch.testing.assert_close(torch.cat([part[name] for part in two]), whole, rtol=1e-4, atol=1e-3)
            continue
        parameters = 2 if name.startswith(('usual', 'mean')) else 0
        for k, value in enumerate(whole):
            first, second = (part[name][k] for part in two)
            # Gradients are shares of the sum; statistics are the same in both.
            got = first + second if k < parameters else first
            torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-3)
            assert k < parameters or torch.equal(first, second)


def test_joined_norms_keep_their_parameters_and_what_they_share():
    from perception3d.engine.sync_norm import ProcessBatchNorm, join_batch_norms

    norm = nn.BatchNorm1d(4).eval()
    model = nn.Sequential(nn.Linear(4, 4), norm, nn.ModuleDict({'again': norm}), nn.LayerNorm(4))
    names = list(model.state_dict())
    joined = join_batch_norms(model)
    assert joined is model and type(model[1]) is ProcessBatchNorm and model[2]['again'] is model[1]
    assert model[1].weight is norm.weight and model[1].running_mean is norm.running_mean and not model[1].training
    assert type(model[3]) is nn.LayerNorm and list(model.state_dict()) == names
    assert type(join_batch_norms(nn.BatchNorm2d(3))) is ProcessBatchNorm
    # One process: torch's own.
    x = torch.randn(8, 4)
    torch.testing.assert_close(model[1].train()(x), nn.BatchNorm1d(4)(x))


def test_an_unknown_sync_bn_is_named():
    from perception3d.checks import InputError
    from perception3d.engine.runner import PerceptionRunner

    runner = SimpleNamespace(distributed=True, cfg={'sync_bn': 'torhc'})
    with pytest.raises(InputError, match="unknown sync_bn 'torhc': did you mean 'torch'"):
        PerceptionRunner.wrap_model(runner, None, nn.BatchNorm2d(3))


SLURM = """
import os
import torch
from torch import distributed
from perception3d.engine.distributed import start_processes
if os.fork():
    rank = 0
else:
    rank = 1
os.environ.update(SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), MASTER_ADDR='127.0.0.1')
start_processes('slurm')
total = torch.tensor([1.0 + rank])
distributed.all_reduce(total)
if rank:
    raise SystemExit(0)
print(distributed.get_world_size(), int(total), os.environ['MASTER_PORT'])
assert os.wait()[1] == 0
"""


def test_the_tasks_of_a_slurm_job_meet_at_a_port_of_their_own():
    known = {name: value for name, value in os.environ.items() if name not in ('MASTER_PORT', 'WORLD_SIZE', 'RANK')}
    job = {'SLURM_NTASKS': '2', 'SLURM_JOB_ID': '312', 'SLURM_STEP_ID': '4', 'SLURM_NODELIST': 'here'}
    out = subprocess.run(
        [sys.executable, '-c', SLURM], capture_output=True, text=True, cwd=ROOT, timeout=300, env={**known, **job}
    )
    # 10000 + (312 * 131 + 4) % 20000
    assert out.stdout.split() == ['2', '3', '10876'], out.stderr[-2000:]


@pytest.mark.parametrize('cuda', [False, True])
def test_jobs_and_steps_have_different_ports(cuda, monkeypatch):
    from perception3d.engine import distributed

    # mmengine's launcher, which takes over with CUDA, reads the same variable.
    monkeypatch.setattr(distributed.torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setattr(distributed.distributed, 'is_initialized', lambda: True)
    ports = set()
    for job, step in ((7, None), (7, 1), (7, 2), (8, 0), (9, 0), (5_000_000, 0)):
        monkeypatch.delenv('MASTER_PORT', raising=False)
        monkeypatch.setenv('SLURM_JOB_ID', str(job))
        if step is not None:
            monkeypatch.setenv('SLURM_STEP_ID', str(step))
        distributed.start_processes('slurm')
        ports.add(int(os.environ['MASTER_PORT']))
    assert len(ports) == 6 and all(10000 <= port < 30000 for port in ports)
    monkeypatch.setenv('MASTER_PORT', '1234')
    distributed.start_processes('slurm')
    assert os.environ['MASTER_PORT'] == '1234'
