"""Threads: how many the numba kernels use next to torch, and what each calling thread keeps for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numba
import torch


class PerThread(threading.local):
    """State that is kept between calls, of which every calling thread has its own.

    The base class of everything that a model keeps from one forward pass for the next: without it, a second thread
    writes into the memory that the first one is reading. A subclass sets the first state in `__init__`, which runs in
    every thread that uses the object. What a thread kept is freed when the thread ends. Copies and pickles of an object
    start without its state; arguments of `__init__` are not kept.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def allocate_to_keep(make: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    """Returns `make(*args, **kwargs)` as memory that later calls may write into, whether in inference mode or not.

    What is allocated in inference mode may not be written outside of it.
    """
    with torch.inference_mode(False):
        return make(*args, **kwargs)


def share_threads_with_torch() -> None:
    """Lets the numba kernels use as many threads as torch does, at most all that numba started with.

    Numba's first parallel call starts its pool, and its OpenMP layer then sets torch's number of threads to that of the
    cores; torch gets its own number back.
    """
    threads = torch.get_num_threads()
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
