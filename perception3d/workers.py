"""Processes that work for this one: they end when it ends, however it ends, and their death is told in one line."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from perception3d.checks import InputError

_LOOK_S = 1.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == 'linux' else None


def end_with_parent() -> None:
    """Makes this process end, at once and without a word, about a second after its parent has ended.

    A killed parent cannot tell its workers to end: they would wait for work for ever. Call it in the worker. The parent
    is the process that started this one, also where a fork server lies between the two.
    """
    args = (os.getppid(), multiprocessing.parent_process())
    threading.Thread(target=_watch, args=args, name='end_with_parent', daemon=True).start()


def _watch(pid: int, started_by: Any) -> None:
    # An orphan gets another parent. A fork server may be alive without the process that asked it for this one.
    while os.getppid() == pid and (started_by is None or started_by.is_alive()):
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGKILL)


def end_child_with_parent() -> None:
    """For `preexec_fn` of `subprocess`: the command gets SIGTERM when the thread that started it ends (on Linux)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def process_pool(jobs: int, initializer: Callable[[], None] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Gives a pool of `jobs` processes that end with this one; on an error, work that has not begun is dropped.

    Args:
        initializer: is called in every process first; a function of a module.

    Raises:
        InputError: one of the processes died.
    """
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(jobs, context, _begin, (initializer,)) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise InputError(
                'a worker process died, which mostly means that the system ended it for lack of memory: use fewer '
                'with --jobs'
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(initializer: Callable[[], None] | None) -> None:
    end_with_parent()
    if initializer is not None:
        initializer()
