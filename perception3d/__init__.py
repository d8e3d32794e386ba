"""3D perception for autonomous driving: six systems as plugins of one mmengine-style config and runner."""

from __future__ import annotations

from perception3d import compat

__version__ = '0.1.0'

compat.apply()
