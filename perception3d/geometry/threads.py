"""Threads of numba kernels beside those of torch."""

from __future__ import annotations

import numba
import torch


def share_threads_with_torch() -> None:
    """Lets the numba kernels use as many threads as torch does, at most all that numba started with.

    Numba's first parallel call starts its pool, and its OpenMP layer then sets torch's number of threads to that of the
    cores; torch gets its own number back.
    """
    threads = torch.get_num_threads()
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
