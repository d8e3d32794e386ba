"""Measuring: medians of several runs, peak memory of a stretch of code, the machine's name, tables of results."""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from perception3d.geometry.devices import has_bfloat16


def synchronize(device: torch.device) -> None:
    """Waits for the device, where it works on its own."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def median_ms(function: Callable[[], Any], device: torch.device, runs: int = 7, warm_up: int = 1) -> float:
    """Returns the median wall time of `function` in milliseconds, after `warm_up` runs that do not count."""
    for _ in range(warm_up):
        function()
    times = []
    for _ in range(runs):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


class PartTimer:
    """Times parts of a computation by wrapping the methods that do them.

    >>> timer = PartTimer(device)
    >>> timer.wrap(model, 'extract_images', '2D network')
    >>> model(...); timer.medians_ms()
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._times: dict[str, list[float]] = {}

    def wrap(self, owner: Any, method: str, part: str) -> None:
        """Lets calls of `owner.method` count for `part`; wrapping is for the life of `owner`."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            synchronize(self.device)
            start = time.perf_counter()
            result = original(*args, **kwargs)
            synchronize(self.device)
            self._times.setdefault(part, []).append((time.perf_counter() - start) * 1e3)
            return result

        setattr(owner, method, timed)

    def reset(self) -> None:
        """Forgets what was measured."""
        self._times.clear()

    def medians_ms(self) -> dict[str, float]:
        """Returns the median of every part in milliseconds."""
        return {part: statistics.median(times) for part, times in self._times.items()}


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, float]]:
    """Fills the dict that it gives with `peak_mib`: device memory on a GPU, else the process's resident memory.

    Resident memory counts all of the process; where the system does not let its record be reset (Linux does), it is
    the highest since the process began.
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
    """Returns by how many MiB memory rises at most above what is held before, while `function` runs."""
    gc.collect()
    with peak_memory(device) as before:
        synchronize(device)
    with peak_memory(device) as during:
        function()
        synchronize(device)
    return during['peak_mib'] - before['peak_mib']


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


def machine(device: torch.device) -> dict[str, Any]:
    """Names what the figures were measured on."""
    facts = {
        'processor': _processor(),
        'threads': torch.get_num_threads(),
        'instructions': torch.backends.cpu.get_cpu_capability(),
        'bf16_instructions': has_bfloat16(device),
        'torch': torch.__version__,
        'python': platform.python_version(),
    }
    if device.type == 'cuda':
        facts['gpu'] = torch.cuda.get_device_name(device)
    return facts


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    if info.is_file():
        fields = dict(
            (part.strip() for part in line.split(':', 1)) for line in info.read_text().splitlines() if ':' in line
        )
        family = f', family {fields["cpu family"]} model {fields["model"]}' if 'cpu family' in fields else ''
        return fields.get('model name', platform.machine()) + family
    return platform.processor() or platform.machine()


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows of equal keys as a Markdown table; numbers keep three significant digits."""
    columns = list(rows[0])
    lines = ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
    lines += ['| ' + ' | '.join(_cell(row[column]) for column in columns) + ' |' for row in rows]
    return '\n'.join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
    return str(value)
