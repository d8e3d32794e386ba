"""Starting several processes on machines with and without CUDA; mmengine's own launcher assumes CUDA."""

from __future__ import annotations

import atexit
import os
import subprocess
import time

import torch
from torch import distributed

from perception3d.checks import InputError

_LAST_WORDS_S = 0.3


def start_processes(launcher: str, backend: str | None = None) -> None:
    """Joins the process group that torchrun or slurm has prepared, with gloo where there is no CUDA device.

    With CUDA it does nothing, since mmengine then does it (device by local rank, nccl).

    Args:
        launcher: 'none', 'pytorch' (torchrun) or 'slurm'.
        backend: name of a torch.distributed backend; by default gloo.

    Raises:
        InputError: the environment variables of the launcher are missing.
    """
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
    # gloo's threads may hold the last reference to a tensor that Python has seen. If one gives that up while the
    # interpreter is being taken down, the process aborts after its work is done.
    atexit.register(leave_processes)


def leave_processes() -> None:
    """Leaves the process group, if there is one, and gives its threads time to end; may be called more than once."""
    if not distributed.is_available() or not distributed.is_initialized():
        return
    distributed.destroy_process_group()
    # Where something still refers to the group, its threads are not joined. They need the interpreter's lock, which
    # sleeping gives them, for what they hold.
    time.sleep(_LAST_WORDS_S)


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
