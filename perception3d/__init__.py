"""3D perception for autonomous driving: six systems as plugins of one mmengine-style config and runner.

>>> import perception3d
>>> inferencer = perception3d.Inferencer('fast_bev_tiny_96x352_9e_sim', 'demo')
>>> type(inferencer.model).__name__
'FastBEV'

The public names are imported when they are used: importing the package applies the fixes of upstream packages
(`compat`) and loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception3d import compat
from perception3d.public_names import given_names

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

__getattr__, __dir__ = given_names(__name__, lambda: _HOMES)
