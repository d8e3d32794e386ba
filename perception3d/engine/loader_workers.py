"""Workers of data loaders: they end with their parent, and the death of one is an error of one line."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.queues import Queue
from typing import Any

from torch.utils.data import DataLoader

from perception3d.checks import InputError
from perception3d.workers import end_with_parent

_SHARED_MEMORY = '/dev/shm'
_NO_SHARED_MEMORY, _NOT_SENT = 91, 92
"""Exit codes of a worker whose batch could not be sent: nothing else reaches the parent then."""
_ABOUT_WORKERS = ('DataLoader worker (pid', 'received 0 items of ancdata')


def look_after_workers(loader: DataLoader) -> DataLoader:
    """Makes the workers of a loader end when this process ends, or when they cannot send a batch."""
    loader.worker_init_fn = partial(_begin, loader.worker_init_fn)
    return loader


def _begin(init: Callable[[int], Any] | None, worker_id: int) -> None:
    end_with_parent()
    # Private, so that typeshed does not have it.
    Queue._on_queue_feeder_error = staticmethod(_end_unsent)  # type: ignore[attr-defined]
    if init is not None:
        init(worker_id)


def _end_unsent(error: Exception, batch: Any) -> None:
    """Ends a worker whose batch was lost: Python would continue, and the parent would wait for it forever."""
    if 'shared memory' in str(error) or 'No space left' in str(error):
        os._exit(_NO_SHARED_MEMORY)
    traceback.print_exception(error)
    os._exit(_NOT_SENT)


@contextmanager
def deaths_in_one_line() -> Iterator[None]:
    """Turns torch's error about a worker that died into one line.

    Raises:
        InputError: what happened to it, and what to do.
    """
    try:
        yield
    except RuntimeError as error:
        texts = _chain(error)
        if not any(words in texts for words in _ABOUT_WORKERS):
            raise
        raise InputError(_advice(texts)) from error


def _chain(error: BaseException | None) -> str:
    """Returns the texts of an error and of its causes."""
    texts = []
    while error is not None and str(error) not in texts:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return '\n'.join(texts)


def _advice(texts: str) -> str:
    if f'exit code {_NO_SHARED_MEMORY}' in texts or 'Bus error' in texts or 'shared memory' in texts:
        space = ''
        if os.path.isdir(_SHARED_MEMORY):
            usage = shutil.disk_usage(_SHARED_MEMORY)
            space = f', of which there are {usage.total // 1024} KB'
        return (
            f'a worker of the data loader found no space in the shared memory {_SHARED_MEMORY}{space}: set '
            'num_workers=0 (--cfg-options train_dataloader.num_workers=0), or give more of it, such as '
            'docker run --shm-size=8g'
        )
    if 'ancdata' in texts:
        return 'the workers of the data loader have too many open files: raise the limit with ulimit -n, or use fewer'
    if 'signal: Killed' in texts:
        return (
            'a worker of the data loader was killed, most likely by the system for lack of memory: use fewer workers '
            'or none (--cfg-options train_dataloader.num_workers=0), or a smaller batch'
        )
    first = next(line for line in reversed(texts.splitlines()) if any(words in line for words in _ABOUT_WORKERS))
    return f'a worker of the data loader died ({first.rstrip(". ")}): run with num_workers=0 to see the error'
