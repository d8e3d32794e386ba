"""Two processes with half the batch each take the step that one process takes with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'tests' / 'plugin' / 'plugin_config.py'
FAST_BEV = ROOT / 'configs' / 'fast_bev'


def test_torchrun_trains_a_config_to_the_weights_of_one_process(tmp_path):
    options = ['+model.dropout=0.0', 'train_cfg.max_epochs=1', 'custom_hooks=[]', 'default_hooks.checkpoint.interval=6']
    train = [str(ROOT / 'tools' / 'train.py'), str(CONFIG)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    one = [sys.executable, *train, '--work-dir', str(tmp_path / 'one'), '--cfg-options', *options]
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29611']
    two = [*torchrun, *train, '--work-dir', str(tmp_path / 'two'), '--launcher', 'pytorch', '--cfg-options', *options]
    for command in (one, [*two, 'train_dataloader.batch_size=2']):
        out = subprocess.run(command, capture_output=True, text=True, env=environment, cwd='/', timeout=300)
        assert out.returncode == 0, out.stderr[-2000:]
    weights = [torch.load(tmp_path / name / 'iter_6.pth', weights_only=False)['state_dict'] for name in ('one', 'two')]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-5, atol=1e-6)


LEAVE = """
import os, sys
from torch import distributed
from perception3d.engine.distributed import start_processes
os.environ.update(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1')
for round_ in range(6):
    children = []
    for rank in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), MASTER_PORT=str(29630 + round_))
            start_processes('pytorch')
            # The threads of gloo now wait for Python until it is taken down, as they may on a busy machine.
            sys.setswitchinterval(10)
            for _ in range(20):
                distributed.broadcast_object_list([list(range(1000))], 0)
            if round_ % 2:
                # As where something keeps the group, so that its threads are not joined.
                distributed.destroy_process_group = lambda: None
            sys.exit(0)
    print(*(os.waitpid(child, 0)[1] for child in children))
"""


def test_a_process_that_ends_right_after_a_collective_does_not_abort():
    out = subprocess.run([sys.executable, '-c', LEAVE], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert out.stdout.split() == ['0'] * 12, out.stderr[-2000:]


def _tiny_model(config):
    from mmengine.registry import init_default_scope

    from perception3d.apis.config import load_config
    from perception3d.registry import MODELS

    init_default_scope('mmdet3d')
    torch.manual_seed(0)
    # Batch norm is frozen, as the released backbone trains: statistics of half a batch are those of half a batch.
    return MODELS.build(load_config(FAST_BEV / config).model).double().eval()


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
            'lidar2ego': ego_from_lidar,
            'num_frames': 1,
            'box_type_3d': LiDARInstance3DBoxes,
        }
    )
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(torch.tensor(boxes, dtype=torch.float32), box_dim=9),
        labels_3d=torch.full((number + 1,), number % 10),
    )
    return torch.tensor(rng.normal(size=(3, 3, 64, 128))), sample


def _gradients(rank, world_size, port, configs, folder):
    """Writes folder/<number of the config>.pt: the gradients of a step on every `world_size`-th sample."""
    if world_size > 1:
        torch.set_num_threads(1)
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR='127.0.0.1', MASTER_PORT=port
        )
        from mmengine.model import MMDistributedDataParallel

        from perception3d.engine.distributed import start_processes

        start_processes('pytorch')
    for number, config in enumerate(configs):
        model = _tiny_model(config)
        if world_size > 1:
            model = MMDistributedDataParallel(module=model, broadcast_buffers=False)
        images, samples = zip(*(_sample(number) for number in range(rank, 4, world_size)))
        losses = model({'imgs': torch.stack(images)}, list(samples), mode='loss')
        sum(losses.values()).backward()
        if rank == 0:
            gradients = {name.removeprefix('module.'): p.grad for name, p in model.named_parameters()}
            torch.save(gradients, Path(folder) / f'{number}.pt')


def test_gradients_of_fast_bev_are_those_of_one_process(tmp_path):
    # The samples hold 1 to 4 objects, so that a loss normalised in each process alone would differ.
    configs = [f'fast_bev_tiny_96x352_{head}9e_sim.py' for head in ('', 'free_anchor_')]
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
    _gradients(0, 1, '', configs, str(tmp_path / 'one'))
    multiprocessing.spawn(_gradients, (2, '29612', configs, str(tmp_path / 'two')), nprocs=2)
    for number in range(len(configs)):
        one, two = (torch.load(tmp_path / folder / f'{number}.pt') for folder in ('one', 'two'))
        assert one.keys() == two.keys() and len(one) > 50
        for name, gradient in one.items():
            scale = gradient.abs().max().clamp(min=1.0)
            assert ((two[name] - gradient).abs().max() / scale) < 1e-5, name


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
