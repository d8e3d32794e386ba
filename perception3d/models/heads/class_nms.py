"""Suppression within each class, with boxes scaled before the IoU is taken ("scale-NMS", BEVDet).

A cone of 0.4 m hardly ever overlaps its own duplicate, so its box is enlarged; a bus is shrunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perception3d.checks import InputError
from perception3d.geometry.boxes import to_bev
from perception3d.ops.nms import nms_groups


@dataclass(frozen=True)
class ClassNMS:
    """Suppression rule of every class; the defaults are scale-NMS as released for the ten nuScenes classes.

    Attributes:
        kinds: 'rotate' (rotated IoU) or 'circle' (squared distance of centres) for each class.
        thresholds: IoU, or squared metres for 'circle', above which the box of the lower score is dropped.
        factors: what length and width are multiplied with before IoU is taken.
        circle_limit: largest number of boxes that a 'circle' class may keep.
    """

    kinds: Sequence[str] = ('rotate',) * 9 + ('circle',)
    thresholds: Sequence[float] = (0.2,) * 7 + (0.5, 0.5, 1.0)
    factors: Sequence[float] = (1.0, 0.7, 0.55, 0.4, 0.7, 1.0, 1.0, 4.5, 9.0, 1.0)
    circle_limit: int = 83

    def __post_init__(self) -> None:
        lengths = {len(self.kinds), len(self.thresholds), len(self.factors)}
        if len(lengths) != 1 or not set(self.kinds) <= {'rotate', 'circle'}:
            raise InputError(
                f'nms: kinds, thresholds and factors need one entry per class, kinds are rotate or circle; got {self}'
            )

    @classmethod
    def plain(cls, num_classes: int, threshold: float = 0.2) -> ClassNMS:
        """Rotated NMS with one IoU `threshold` and unscaled boxes for each of `num_classes`."""
        return cls(('rotate',) * num_classes, (threshold,) * num_classes, (1.0,) * num_classes)

    def select(self, boxes: Tensor, scores: Tensor, score_threshold: float, limit: int) -> tuple[Tensor, Tensor]:
        """Picks (box, class) pairs: indices into `boxes` and labels, both (K,), by falling score, K <= `limit`.

        Args:
            boxes: (N, >=7) decoded boxes.
            scores: (N, C) class scores in 0..1.
            score_threshold: pairs with a score up to this one are dropped.
            limit: largest number of pairs to return.
        """
        if len(self.kinds) != scores.shape[1]:
            raise InputError(f'nms: rules for {len(self.kinds)} classes, but the head scores {scores.shape[1]}')
        index, label = torch.nonzero(scores > score_threshold, as_tuple=True)
        bev = to_bev(boxes[index]).clone()
        bev[:, 2:4] *= bev.new_tensor(self.factors)[label, None]
        circle = [kind == 'circle' for kind in self.kinds]
        limits = [self.circle_limit if c else len(index) for c in circle]
        keep = nms_groups(bev, scores[index, label], label, self.thresholds, circle, limits)[:limit]
        return index[keep], label[keep]
