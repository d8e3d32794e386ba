"""What the tools call: configs, runners, checkpoints, inference.

The names are resolved when they are used, so that `--help` of a tool does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    'apply_options': 'perception3d.apis.config',
    'load_config': 'perception3d.apis.config',
    'parse_options': 'perception3d.apis.option_texts',
    'build_runner': 'perception3d.apis.runner',
    'demo_checkpoint': 'perception3d.checkpoint_files',
    'has_bfloat16': 'perception3d.geometry.devices',
    'load_checkpoint_safely': 'perception3d.checkpoints',
    'load_weights': 'perception3d.checkpoints',
    'Inferencer': 'perception3d.apis.inferencer',
    'run_tool': 'perception3d.apis.cli',
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_HOMES[name]), name)
