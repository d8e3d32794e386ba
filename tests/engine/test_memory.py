"""Freed memory stays in the process where the C library is glibc."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_CODE = """
import resource, torch
from perception3d.engine.memory import keep_freed_memory
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


def _page_faults(keep: bool) -> int:
    code = _CODE.format(keep=keep)
    # Left to itself glibc may learn in time to keep blocks of this size; with a bound set it does not.
    environment = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': str(128 << 10)}
    command = [sys.executable, '-c', code]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='mallopt is glibc')
def test_memory_that_is_kept_is_not_faulted_in_again() -> None:
    assert _page_faults(keep=True) * 5 < _page_faults(keep=False)
