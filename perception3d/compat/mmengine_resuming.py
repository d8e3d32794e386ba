"""Fixes of how mmengine finds the checkpoint to resume from."""

from __future__ import annotations

import os
from types import ModuleType


def find_checkpoints_by_name(mmengine_checkpoint: ModuleType) -> None:
    """Replaces mmengine's finder, which believes the path in last_checkpoint, by one that looks in the folder."""

    def find_latest_checkpoint(path: str | os.PathLike[str]) -> str | None:
        from perception3d.checkpoints import latest_checkpoint

        found = latest_checkpoint(path, tell=print)
        return None if found is None else str(found)

    mmengine_checkpoint.find_latest_checkpoint = find_latest_checkpoint
