"""What `tools/benchmark.py` measures: one module for each system.

A module has `BENCHMARKS`: for each name that `--part` takes, a function `(config, settings)` that returns the rows of
tables by their titles. `timing` has the measurements that they share, `report` makes tables.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # The names of the benchmarks, which --help lists, need neither.
    import torch
    from mmengine.config import Config

Tables = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Args:
        device: where the model runs.
        runs: number of measurements of each median.
        dtypes: 'fp32', 'bf16' and 'fp16', for the benchmarks that compare them.
        checkpoint: weights; random ones by default.
    """

    device: torch.device
    runs: int = 7
    dtypes: Sequence[str] = ('fp32', 'bf16')
    checkpoint: str | None = None


def benchmark_names() -> list[str]:
    """Returns the names of all benchmarks, read from the source of the modules: to import them takes seconds."""
    return [name for module in pkgutil.iter_modules(__path__) for name in _named_in(Path(__path__[0]), module.name)]


def _named_in(folder: Path, module: str) -> list[str]:
    for node in ast.parse((folder / f'{module}.py').read_text(encoding='utf-8')).body:
        names = [ast.unparse(target) for target in node.targets] if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.Assign) and names == ['BENCHMARKS'] and isinstance(node.value, ast.Dict):
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    return []


def find_benchmarks() -> dict[str, Callable[[Config, Settings], Tables]]:
    """Returns the benchmarks of all modules of this package by their names."""
    modules = [importlib.import_module(f'{__name__}.{module.name}') for module in pkgutil.iter_modules(__path__)]
    return {name: measure for module in modules for name, measure in getattr(module, 'BENCHMARKS', {}).items()}
