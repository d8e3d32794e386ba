"""Fixes of how mmengine finds the checkpoint to resume from."""

from __future__ import annotations

import os
from typing import Any


def find_checkpoints_by_name(mmengine_checkpoint: Any) -> None:
    """Replaces mmengine's search, which trusts the path in last_checkpoint, by one that looks in the folder."""

    def find_latest_checkpoint(path: str | os.PathLike[str]) -> str | None:
        from perception3d.training_folder import latest_checkpoint

        newest = latest_checkpoint(os.fspath(path), report=print)
        return None if newest is None else str(newest)

    mmengine_checkpoint.find_latest_checkpoint = find_latest_checkpoint
