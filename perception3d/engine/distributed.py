"""Starting several processes on machines with and without CUDA; mmengine's own launcher assumes CUDA."""

from __future__ import annotations

import atexit
import os
import subprocess
import time

import torch
from torch import distributed

from perception3d.checks import InputError

_LEAVE_S = 0.3
# Below the ports that Linux gives to outgoing connections.
_FIRST_PORT, _PORTS = 10000, 20000


def start_processes(launcher: str, backend: str | None = None) -> None:
    """Joins the process group that torchrun or slurm has prepared, with gloo where there is no CUDA device.

    With CUDA it only sets the port of a slurm job, since mmengine does the rest (device by local rank, nccl).

    Args:
        launcher: 'none', 'pytorch' (torchrun) or 'slurm'.
        backend: name of a torch.distributed backend; by default gloo.

    Raises:
        InputError: the environment variables of the launcher are missing.
    """
    if launcher == 'slurm':
        _name_port()
    if launcher == 'none' or torch.cuda.is_available() or distributed.is_initialized():
        return
    if launcher == 'slurm':
        _describe_slurm_job()
    missing = [name for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR') if name not in os.environ]
    if missing:
        raise InputError(
            f'--launcher {launcher} needs {", ".join(missing)} in the environment: '
            'start it as torchrun --nproc_per_node=2 tools/train.py CONFIG --launcher pytorch'
        )
    distributed.init_process_group(backend=backend or 'gloo')
    # gloo's threads may hold the last reference to a tensor of Python. If one drops it while the interpreter shuts
    # down, the process aborts after its work is done.
    atexit.register(leave_processes)


def process_rank() -> int:
    """The number of this process among those of torchrun or slurm, before and after they have joined; else 0."""
    return int(os.environ.get('RANK') or os.environ.get('SLURM_PROCID') or 0)


def leave_processes() -> None:
    """Leaves the process group, if there is one, and gives its threads time to end; may be called more than once."""
    if not distributed.is_available() or not distributed.is_initialized():
        return
    distributed.destroy_process_group()
    # If something still refers to the group, its threads are not joined. They need the interpreter's lock, which sleep
    # releases, to free what they hold.
    time.sleep(_LEAVE_S)


def _name_port() -> None:
    """Sets a port that differs between the jobs and steps which share a node, but not between the processes of one.

    Only the node of the first process can test whether a port is free, and the others would have to learn the number.
    """
    if 'MASTER_PORT' not in os.environ and 'SLURM_JOB_ID' in os.environ:
        job, step = int(os.environ['SLURM_JOB_ID']), int(os.environ.get('SLURM_STEP_ID', '0'))
        # A prime, so that steps of one job and of neighbouring jobs rarely get the same port.
        os.environ['MASTER_PORT'] = str(_FIRST_PORT + (job * 131 + step) % _PORTS)


def _describe_slurm_job() -> None:
    """Sets the variables that torch.distributed reads from those that slurm sets."""
    if 'SLURM_PROCID' not in os.environ:
        raise InputError('--launcher slurm runs inside a slurm job: start it with srun')
    environment = os.environ
    environment.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in environment:
        nodes = subprocess.run(
            ['scontrol', 'show', 'hostname', environment['SLURM_NODELIST']], capture_output=True, text=True, check=True
        )
        environment['MASTER_ADDR'] = nodes.stdout.split()[0]
    environment['RANK'] = environment['SLURM_PROCID']
    environment['WORLD_SIZE'] = environment['SLURM_NTASKS']
    environment['LOCAL_RANK'] = environment.get('SLURM_LOCALID', '0')
