"""Results of measurements: facts of the machine, and tables in Markdown."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from perception3d.geometry.devices import has_bfloat16


def machine(device: torch.device) -> dict[str, Any]:
    """Returns the processor, its instructions, the versions and the GPU of this machine."""
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
        parts = [line.partition(':') for line in info.read_text().splitlines() if ':' in line]
        fields = {name.strip(): value.strip() for name, _, value in parts}
        family = f', family {fields["cpu family"]} model {fields["model"]}' if 'cpu family' in fields else ''
        return fields.get('model name', platform.machine()) + family
    return platform.processor() or platform.machine()


# tabulate would be one more dependency, only for these ten lines: none of our dependencies installs it, and it has no
# format for three significant digits without exponents.
def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows of equal keys as a Markdown table; numbers keep three significant digits."""
    columns = list(rows[0])
    lines = ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
    lines += ['| ' + ' | '.join(_text(row[column]) for column in columns) + ' |' for row in rows]
    return '\n'.join(lines)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
    return str(value)
