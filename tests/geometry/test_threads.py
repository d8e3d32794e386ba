"""Numba's pool leaves torch's number of threads alone, and is entered by one thread where it must be."""

from __future__ import annotations

import subprocess
import sys
import threading

import numba
import pytest

from perception3d.geometry.threads import parallel_kernels

KERNELS = {
    'gather': 'scatter.gather_rows(torch.randn(9, 4), torch.zeros(99, dtype=torch.int32))',
    'scatter': 'scatter.scatter_add_rows(torch.randn(999, 4), torch.zeros(999, dtype=torch.int32), 99)',
    'iou': 'iou.box_iou(torch.rand(500, 7), torch.rand(500, 7))',
}


@pytest.mark.parametrize('kernel', KERNELS)
def test_the_first_parallel_kernel_of_a_process_keeps_torchs_threads(kernel):
    code = f"""
import torch
torch.set_num_threads(1)
import perception3d
from perception3d.geometry import iou
from perception3d.ops import scatter
{KERNELS[kernel]}
import numba
print(torch.get_num_threads(), numba.get_num_threads())
"""
    # The environment of a user: numba starts with all cores, torch uses one.
    environment = {'PATH': '/usr/bin:/bin', 'NUMBA_NUM_THREADS': '2'}
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=environment)
    assert out.stdout.split() == ['1', '1'], out.stderr[-500:]


@pytest.mark.parametrize(('layer', 'together'), [('workqueue', False), ('omp', True)])
def test_threads_wait_for_each_other_where_numbas_layer_needs_it(monkeypatch, layer, together):
    monkeypatch.setattr(numba, 'threading_layer', lambda: layer)
    barrier, met = threading.Barrier(2), []

    def work() -> None:
        with parallel_kernels(), parallel_kernels():
            try:
                barrier.wait(timeout=30 if together else 0.2)
                met.append(True)
            except threading.BrokenBarrierError:
                met.append(False)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == [together] * 2
