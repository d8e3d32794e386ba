"""Prepares the CPU for trainings and inference: freed memory stays in the process, numpy's BLAS has one thread."""

from __future__ import annotations

import ctypes
import os

from threadpoolctl import threadpool_limits

_BLAS_THREADS = 'OPENBLAS_NUM_THREADS'
# Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MMAP_FROM_BYTES = 32 << 20
_KEEP_BYTES = 1 << 30
_GROW_BYTES = 64 << 20


def prepare_cpu() -> None:
    """Keeps freed memory in the process and numpy's BLAS on one thread; may be called more than once."""
    keep_freed_memory()
    limit_blas_threads()


def keep_freed_memory() -> bool:
    """Makes glibc keep up to 1 GiB of freed memory in the process; returns whether it did.

    By default glibc returns the memory of a freed tensor to the system, which maps it again page by page: a training
    step of a small network on a CPU had 8,600 page faults and spent an eighth of its time in them. Blocks of 32 MiB or
    more, the largest bound that glibc takes, are still returned. May be called more than once; does nothing with
    another C library.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES), (_M_TRIM_THRESHOLD, _KEEP_BYTES), (_M_TOP_PAD, _GROW_BYTES))
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])


def limit_blas_threads() -> None:
    """Keeps the OpenBLAS of numpy and scipy on one thread, unless OPENBLAS_NUM_THREADS is set.

    After a call its helper threads spin for tens of milliseconds, even when the call inverted a few 4 x 4 matrices, on
    the cores that torch computes on: on 2 cores the steps of a small camera detector took 135 ms in the median and
    often 90 ms more, without the helper threads 91 ms. Our calls of numpy need no threads. torch has a BLAS of its own.
    The variable is set for child processes and for libraries that are loaded later.
    """
    if _BLAS_THREADS not in os.environ:
        os.environ[_BLAS_THREADS] = '1'
        threadpool_limits(1, user_api='blas')
