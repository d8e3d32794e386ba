"""The people of a batch as one padded tensor, and what follows from where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORED = -1
# Elements of the tensors (B, people, H, W) that are made at a time: 64 MB.
_CHUNK = 1 << 24


class People(NamedTuple):
    """People of B clouds, padded to P: boxes (B, P, 9), whether a row is a person to find, or an ignored one (B, P)."""

    boxes: Tensor
    known: Tensor
    ignored: Tensor

    @property
    def xy(self) -> Tensor:
        """Places (B, P, 2), metres."""
        return self.boxes[..., :2]


def gather_people(instances: Sequence[Any], device: torch.device) -> People:
    """Returns the people of ground truth `instances` (bboxes_3d, labels_3d) of each cloud.

    A label of 0 is a person; -1 an ignored one, who may be there but is not to be learned: sitting, hardly hit by the
    LiDAR, outside the labelled sector. Boxes of 7 numbers have unknown velocities, NaN. A box with a NaN or an infinite
    number in its first seven, or with a side of 0 m or less, has no part in the loss.
    """
    rows = [torch.as_tensor(each.bboxes_3d.tensor, dtype=torch.float32, device=device) for each in instances]
    labels = [torch.as_tensor(each.labels_3d, device=device).long() for each in instances]
    most = max(1, *(len(row) for row in rows))
    boxes = torch.full((len(rows), most, 9), float('nan'), device=device)
    label = torch.full((len(rows), most), -2, device=device)
    for k, (row, own) in enumerate(zip(rows, labels, strict=True)):
        boxes[k, : len(row), : row.shape[1]] = row
        label[k, : len(row)] = own
    usable = boxes[..., :7].isfinite().all(-1) & (boxes[..., 3:6] > 0).all(-1)
    harmless = boxes.new_tensor([0, 0, 0, 1, 1, 1, 0, float('nan'), float('nan')])
    boxes = torch.where(usable[..., None], boxes, harmless)
    return People(boxes, usable & (label == 0), usable & (label == IGNORED))


def nearest_others(people: People) -> tuple[Tensor, Tensor]:
    """Returns the distance (B, P) to the nearest other person, inf where there is none, and the vector to them."""
    gaps = people.xy[:, None] - people.xy[:, :, None]
    distance = torch.linalg.vector_norm(gaps, dim=-1)
    itself = torch.eye(people.known.shape[1], dtype=torch.bool, device=gaps.device)
    pairs = people.known[:, :, None] & people.known[:, None] & ~itself
    nearest, index = distance.masked_fill(~pairs, torch.inf).min(2)
    return nearest, gaps.gather(2, index[:, :, None, None].expand(-1, -1, 1, 2)).squeeze(2)


def strongest(along_x: Tensor, along_y: Tensor) -> Tensor:
    """Returns for each cell (B, H, W) the largest product of values along x (B, P, W) and along y (B, P, H).

    Products of people are made some at a time, so that memory does not grow with the crowd. Values are not negative.
    """
    batch, people, width = along_x.shape
    height = along_y.shape[2]
    best = along_x.new_zeros(batch, height, width)
    step = max(1, _CHUNK // (batch * height * width))
    for first in range(0, people, step):
        part = slice(first, first + step)
        best = torch.maximum(best, (along_y[:, part, :, None] * along_x[:, part, None]).amax(1))
    return best


def counts_within(people: People, x: Tensor, y: Tensor, radius_m: float) -> Tensor:
    """Returns how many known people (B, H, W) stand within `radius_m` of places x (W,) and y (H,)."""
    square_x = (x - people.xy[..., :1]).square().masked_fill(~people.known[..., None], torch.inf)
    square_y = (y - people.xy[..., 1:]).square()
    batch, count, width = square_x.shape
    number = square_x.new_zeros(batch, len(y), width)
    step = max(1, _CHUNK // (batch * len(y) * width))
    for first in range(0, count, step):
        part = slice(first, first + step)
        number += (square_y[:, part, :, None] + square_x[:, part, None] <= radius_m**2).sum(1)
    return number


def kth_nearest(people: People, x: Tensor, y: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the distance (B, H, W) from places x (W,) and y (H,) to their k-th nearest known person, and its number.

    Clouds of fewer people have the distance to the last one; the number (B,) says which it is. Without people it is 0,
    and the distance infinite.
    """
    square_x = (x - people.xy[..., :1]).square().masked_fill(~people.known[..., None], torch.inf)
    square_y = (y - people.xy[..., 1:]).square()
    batch, count, width = square_x.shape
    number = people.known.sum(1).clamp(max=k)
    best = square_x.new_full((batch, k, len(y), width), torch.inf)
    step = max(1, _CHUNK // (batch * len(y) * width))
    for first in range(0, count, step):
        part = slice(first, first + step)
        near = square_y[:, part, :, None] + square_x[:, part, None]
        best = torch.cat([best, near], 1).topk(k, dim=1, largest=False).values
    last = (number - 1).clamp(min=0)[:, None, None, None].expand(-1, 1, len(y), width)
    return best.gather(1, last).squeeze(1).sqrt(), number
