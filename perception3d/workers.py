"""Worker processes: they end when the process that started them ends, and one that dies is reported in one line."""

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

_POLL_S = 1.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == 'linux' else None


def end_with_parent() -> None:
    """Kills this process, without any output, about a second after its parent has ended.

    A killed parent cannot end its workers: they would wait for work forever. Call it in the worker. The parent is the
    process that started this one, also where a fork server runs between the two.
    """
    args = (os.getppid(), multiprocessing.parent_process())
    threading.Thread(target=_watch, args=args, name='end_with_parent', daemon=True).start()


def _watch(pid: int, started_by: Any) -> None:
    # An orphan gets another parent. A fork server may outlive the process that asked it for this one.
    while os.getppid() == pid and (started_by is None or started_by.is_alive()):
        time.sleep(_POLL_S)
    os.kill(os.getpid(), signal.SIGKILL)


def end_child_with_parent() -> None:
    """For `preexec_fn` of `subprocess`: the command gets SIGTERM when the thread that started it ends (on Linux).

    psutil has no such setting: a parent that is killed cannot end its children, so the system must.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def process_pool(jobs: int, initializer: Callable[[], None] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Yields a pool of `jobs` processes that end with this one; on an error, work that has not begun is dropped.

    Args:
        initializer: called first in every process; a function at the top of a module.

    Raises:
        InputError: one of the processes died.
    """
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(jobs, context, _begin, (initializer,)) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise InputError(
                'a worker process died, most likely because the system ran out of memory: use fewer with --jobs'
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(initializer: Callable[[], None] | None) -> None:
    end_with_parent()
    if initializer is not None:
        initializer()
