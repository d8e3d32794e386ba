"""3D perception for autonomous driving: six systems as plugins of one mmengine-style config and runner.

>>> import perception3d
>>> inferencer = perception3d.Inferencer('configs/fast_bev/fast_bev_tiny_96x352_9e_sim.py', 'epoch_9.pth')

The public names are imported when they are used: importing the package applies the fixes of upstream packages
(`compat`) and loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from perception3d import compat

if TYPE_CHECKING:
    from perception3d.apis.config import load_config
    from perception3d.apis.inferencer import Inferencer
    from perception3d.apis.runner import build_runner
    from perception3d.checkpoints import load_weights
    from perception3d.checks import InputError

__version__ = '0.1.0'

__all__ = ['Inferencer', 'InputError', '__version__', 'build_runner', 'load_config', 'load_weights']

_HOMES = {
    'Inferencer': 'perception3d.apis.inferencer',
    'InputError': 'perception3d.checks',
    'build_runner': 'perception3d.apis.runner',
    'load_config': 'perception3d.apis.config',
    'load_weights': 'perception3d.checkpoints',
}

compat.apply()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
