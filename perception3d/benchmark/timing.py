"""Measuring: medians of wall times, times of the parts of a computation, peak memory of a block of code."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

# A clock that waits for the GPU. The Timer of the same package is not used: it calls the statement twice more before
# each measurement, sets torch to one thread and chooses the number of calls itself. A step of a stream changes the
# stream, and models are measured with all threads.
from torch.utils.benchmark import timer


def elapsed_ms(function: Callable[[], Any]) -> float:
    """Returns the wall time of one call in milliseconds, work on the GPU included."""
    start = timer()
    function()
    return (timer() - start) * 1e3


def median_ms(function: Callable[[], Any], runs: int = 7, warm_up: int = 1) -> float:
    """Returns the median wall time of `function` in milliseconds, after `warm_up` calls that are not measured."""
    for _ in range(warm_up):
        function()
    return statistics.median(elapsed_ms(function) for _ in range(runs))


class PartTimer:
    """Times parts of a computation by wrapping their methods.

    >>> model = torch.nn.Linear(2, 2)
    >>> parts = PartTimer()
    >>> parts.wrap(model, 'forward', 'the whole network')
    >>> output = model(torch.ones(1, 2))
    >>> list(parts.medians_ms())
    ['the whole network']
    """

    def __init__(self) -> None:
        self.times_ms: dict[str, list[float]] = {}

    def wrap(self, owner: Any, method: str, part: str) -> None:
        """Times the calls of `owner.method` as `part`; `owner` stays wrapped."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            results = []
            elapsed = elapsed_ms(lambda: results.append(original(*args, **kwargs)))
            self.times_ms.setdefault(part, []).append(elapsed)
            return results[0]

        setattr(owner, method, timed)

    def reset(self) -> None:
        """Removes all measurements."""
        self.times_ms.clear()

    def medians_ms(self) -> dict[str, float]:
        """Returns the median of every part in milliseconds."""
        return {part: statistics.median(times) for part, times in self.times_ms.items()}


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, float]]:
    """Sets `peak_mib` of the dict that it yields: device memory on a GPU, else the process's resident memory.

    Resident memory counts the whole process; where the system does not let its peak be reset (Linux does), it is the
    highest since the start of the process.
    """
    result: dict[str, float] = {}
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _reset_resident_peak()
    yield result
    if device.type == 'cuda':
        result['peak_mib'] = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        result['peak_mib'] = _resident_peak_mib()


def added_mib(function: Callable[[], Any], device: torch.device) -> float:
    """Returns the peak memory of `function` in MiB, above the memory in use before the call."""
    gc.collect()
    with peak_memory(device) as before:
        pass
    with peak_memory(device) as during:
        elapsed_ms(function)
    return during['peak_mib'] - before['peak_mib']


# psutil has the current resident memory, but on Linux not its peak.
def _reset_resident_peak() -> None:
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return


def _resident_peak_mib() -> float:
    status = Path('/proc/self/status')
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith('VmHWM'))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
