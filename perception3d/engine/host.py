"""The process that a training or an inference runs in: memory and helper threads of the C libraries below."""

from __future__ import annotations

import os

from threadpoolctl import threadpool_limits

from perception3d.engine.memory import keep_freed_memory

_BLAS_THREADS = 'OPENBLAS_NUM_THREADS'


def prepare_host() -> None:
    """Keeps freed memory in the process and numpy's BLAS on one thread; harmless to call twice."""
    keep_freed_memory()
    quiet_blas()


def quiet_blas() -> None:
    """Keeps the OpenBLAS of numpy and scipy on one thread, unless OPENBLAS_NUM_THREADS says otherwise.

    After a call its helper threads spin for tens of milliseconds, even when the call inverted a few 4 x 4 matrices, and
    they do so on the cores that torch computes on: on 2 cores the steps of a small camera detector took 135 ms in the
    median and often 90 ms more, without the helpers 91 ms. What we ask of numpy needs no threads. torch has a BLAS of
    its own. The variable is set for child processes and for libraries that are loaded later.
    """
    if _BLAS_THREADS not in os.environ:
        os.environ[_BLAS_THREADS] = '1'
        threadpool_limits(1, user_api='blas')
