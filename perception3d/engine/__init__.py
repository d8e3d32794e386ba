"""The few hooks, loops and launchers that mmengine lacks."""

from __future__ import annotations

from perception3d.public_names import registered_names

__getattr__, __dir__ = registered_names(__name__)
