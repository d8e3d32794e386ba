"""Pictures, videos and 3D views of samples, ground truth and predictions; no display needed except for `view3d`."""

from __future__ import annotations

from perception3d.public_names import registered_names

__getattr__, __dir__ = registered_names(__name__)
