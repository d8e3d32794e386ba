"""Threads: how many the numba kernels use next to torch, and what each calling thread keeps for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import torch

# Of the process, since all kernels share one pool of threads.
_KERNELS = threading.RLock()


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


@contextmanager
def parallel_kernels() -> Iterator[None]:
    """Runs code that calls parallel numba kernels, from any number of threads at the same time.

    numba's layers OpenMP and TBB allow that. Its fallback `workqueue`, for systems that have neither, aborts the
    process when a second thread enters it: there one thread at a time runs such code.
    """
    # numba chooses its layer when its threads are first asked for.
    share_threads_with_torch()
    if numba.threading_layer() == 'workqueue':
        with _KERNELS:
            yield
    else:
        yield


def share_threads_with_torch() -> None:
    """Lets the numba kernels use as many threads as torch does, at most all that numba started with.

    Numba's first parallel call starts its pool, and its OpenMP layer then sets torch's number of threads to that of the
    cores; torch gets its own number back.
    """
    threads = torch.get_num_threads()
    # Any: numba sets its settings when it is imported, a type checker sees none of them.
    settings: Any = numba.config
    most = settings.NUMBA_NUM_THREADS
    numba.set_num_threads(max(1, min(threads, most)))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
