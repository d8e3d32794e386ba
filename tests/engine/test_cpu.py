"""numpy's BLAS has one thread unless the user sets a number; with glibc, freed memory stays in the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_BLAS_CODE = """
import os
import numpy, scipy.linalg
from threadpoolctl import threadpool_info
from perception3d.engine.cpu import prepare_cpu
prepare_cpu()
prepare_cpu()
threads = [one['num_threads'] for one in threadpool_info() if one['user_api'] == 'blas']
print(os.environ['OPENBLAS_NUM_THREADS'], *threads)
"""
_MEMORY_CODE = """
import resource, torch
from perception3d.engine.cpu import keep_freed_memory
if {keep}:
    assert keep_freed_memory() and keep_freed_memory()
def work():
    for _ in range(3):
        torch.ones(5_000_000).add(1)
work()
faults = []
for _ in range(7):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
# The quietest round: a busy machine may take pages away from a process that waits.
print(min(faults))
"""


@pytest.mark.parametrize('given', [None, '2'])
def test_blas_has_one_thread_or_what_was_asked_for(given) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith('_NUM_THREADS')}
    environment |= {} if given is None else {'OPENBLAS_NUM_THREADS': given}
    out = subprocess.run(
        [sys.executable, '-c', _BLAS_CODE], capture_output=True, text=True, check=True, env=environment
    )
    variable, *threads = out.stdout.split()
    assert variable == (given or '1')
    # OpenBLAS takes no more threads than there are cores.
    assert threads and {int(count) for count in threads} == {min(int(variable), len(os.sched_getaffinity(0)))}


def _page_faults(keep: bool) -> int:
    code = _MEMORY_CODE.format(keep=keep)
    # By default glibc may learn to keep blocks of this size; with a fixed bound it does not.
    environment = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': str(128 << 10)}
    command = [sys.executable, '-c', code]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='mallopt is glibc')
def test_memory_that_is_kept_is_not_faulted_in_again() -> None:
    assert _page_faults(keep=True) * 5 < _page_faults(keep=False)
