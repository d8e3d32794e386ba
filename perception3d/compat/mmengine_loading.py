"""Fixes of how mmengine loads files that may hold code."""

from __future__ import annotations

import pickle
from types import ModuleType
from typing import Any


def _safe_globals(mmengine_checkpoint: ModuleType) -> list[Any]:
    """Lists what a checkpoint of mmengine may hold beside tensors.

    The log of a run holds methods of HistoryBuffer, which pickle writes as getattr(HistoryBuffer, name); getattr at
    large reaches any code, so that this one form of it takes its place.
    """
    import numpy as np
    from mmengine.logging import HistoryBuffer

    def getattr_of_history_buffer(owner: Any, name: str) -> Any:
        if owner is HistoryBuffer and not name.startswith('_'):
            return getattr(HistoryBuffer, name)
        raise pickle.UnpicklingError(f'GLOBAL getattr({owner!r}, {name!r}) was not allowed')

    numbers = [type(np.dtype(t)) for t in (np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_)]
    listed = [item for item in mmengine_checkpoint.get_torch_safe_globals() if item is not getattr]
    return [*listed, *numbers, (getattr_of_history_buffer, 'builtins.getattr')]


def load_checkpoints_safely(mmengine_checkpoint: ModuleType) -> None:
    """Replaces mmengine's loader, which runs a pickle that the safe loader refuses, by one that refuses it too."""

    def safe_torch_load(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        from perception3d.checkpoints import torch_load_safely

        return torch_load_safely(file, map_location, _safe_globals(mmengine_checkpoint))

    mmengine_checkpoint._safe_torch_load = safe_torch_load
