"""Ground truth of a batch as rows of boxes, checked."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Targets(NamedTuple):
    """Ground truth of a batch, one row a box: boxes (N, 9), labels (N,), sample (N,), valid (N,) bool, counts (B,)."""

    boxes: Tensor
    labels: Tensor
    sample: Tensor
    valid: Tensor
    counts: tuple[int, ...]


def gather_targets(boxes: list[Tensor], labels: list[Tensor], num_classes: int, device: torch.device) -> Targets:
    """Joins per-sample boxes (G, 7 or 9) and labels (G,) into rows; unknown velocities become NaN.

    A box with a NaN or infinite number in its first seven, or with a label outside 0 .. num_classes - 1, is marked
    invalid and replaced by a harmless one: it takes part in no loss.
    """
    rows = [torch.as_tensor(b, dtype=torch.float32).to(device) for b in boxes]
    rows = [
        torch.cat([r[:, :7], r[:, 7:9] if r.shape[1] >= 9 else r.new_full((len(r), 2), float('nan'))], 1) for r in rows
    ]
    counts = tuple(len(r) for r in rows)
    sample = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long)).to(device)
    joined, classes = torch.cat(rows), torch.cat([torch.as_tensor(x).to(device).long() for x in labels])
    valid = joined[:, :7].isfinite().all(1) & (classes >= 0) & (classes < num_classes)
    harmless = joined.new_tensor([0, 0, 0, 1, 1, 1, 0, float('nan'), float('nan')])
    return Targets(
        torch.where(valid[:, None], joined, harmless), classes.clamp(0, num_classes - 1), sample, valid, counts
    )
