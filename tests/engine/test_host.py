"""numpy's BLAS stays on one thread in trainings and tests, unless the user has said how many."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_CODE = """
import os
import numpy, scipy.linalg
from threadpoolctl import threadpool_info
from perception3d.engine.host import prepare_host
prepare_host()
prepare_host()
threads = [one['num_threads'] for one in threadpool_info() if one['user_api'] == 'blas']
print(os.environ['OPENBLAS_NUM_THREADS'], *threads)
"""


@pytest.mark.parametrize('given', [None, '2'])
def test_blas_has_one_thread_or_what_was_asked_for(given) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith('_NUM_THREADS')}
    environment |= {} if given is None else {'OPENBLAS_NUM_THREADS': given}
    out = subprocess.run([sys.executable, '-c', _CODE], capture_output=True, text=True, check=True, env=environment)
    variable, *threads = out.stdout.split()
    assert variable == (given or '1')
    # OpenBLAS takes no more threads than there are cores.
    assert threads and {int(count) for count in threads} == {min(int(variable), len(os.sched_getaffinity(0)))}
