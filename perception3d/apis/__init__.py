"""What the tools call: configs, runners, checkpoints, inference.

The names are resolved when they are used, so that `--help` of a tool does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    'apply_options': 'config',
    'load_config': 'config',
    'parse_options': 'config',
    'build_runner': 'runner',
    'load_checkpoint_safely': 'checkpoint',
    'load_weights': 'checkpoint',
    'Inferencer': 'inferencer',
    'run_tool': 'cli',
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)
