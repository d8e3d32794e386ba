"""From the maps of a crowd head to boxes: peaks, then suppression within a radius that follows the density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from perception3d.models.crowd.boxes import decode, rows_at
from perception3d.models.crowd.maps import CrowdMaps, MapGrid
from perception3d.models.crowd.targets import DENSITY_SIGMA_M


@dataclass(frozen=True)
class Decoder:
    """How boxes are chosen.

    Attributes:
        score_thr: least score of a box; 0.02 for average precision, 0.1 for pictures [P].
        max_boxes: the peaks that are considered, best first.
        radius_m: radius of suppression where a head has no density map.
        spacing_share: with one, radius over the mean distance of neighbours at that density [P].
        radius_range_m: bounds of that radius [P].
    """

    score_thr: float = 0.02
    max_boxes: int = 200
    radius_m: float = 0.3
    spacing_share: float = 0.3
    radius_range_m: tuple[float, float] = (0.2, 0.45)

    def __call__(self, maps: CrowdMaps, grid: MapGrid) -> list[tuple[Tensor, Tensor]]:
        """Returns for each cloud boxes (N, 9) and scores (N,), by falling score.

        A cell is a peak where no neighbour of 3 x 3 has a greater logit. Of two peaks the worse one is dropped if it
        lies within the radius of the better one, and that one was kept.
        """
        logits, cells = best_peaks(maps.heatmap, self.max_boxes)
        scores = logits.sigmoid()
        boxes = decode(rows_at(maps.codes, cells), cells, grid)
        radius = torch.full_like(scores, self.radius_m)
        if maps.density is not None:
            spacing = poisson_spacing(rows_at(maps.density, cells)[..., 0].float())
            radius = (self.spacing_share * spacing).clamp(*self.radius_range_m)
        usable = (scores >= self.score_thr) & logits.isfinite() & boxes.isfinite().all(-1)
        kept = suppress(boxes[..., :2], radius, usable)
        return [(box[keep], score[keep]) for box, score, keep in zip(boxes, scores, kept, strict=True)]


def best_peaks(heatmap: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns logits and cells (row * W + column), both (B, K), of the best K <= `count` cells of maps (B, 1, H, W).

    By falling logit; cells that are no peaks have -inf. NaN is no peak.
    """
    heat = heatmap.float().nan_to_num(nan=-math.inf)
    peaks = heat.masked_fill(F.max_pool2d(heat, 3, 1, 1) > heat, -math.inf).flatten(1)
    logits, cells = peaks.topk(min(count, peaks.shape[1]), dim=1)
    return logits, cells


def poisson_spacing(density: Tensor) -> Tensor:
    """Returns the mean distance in metres to the nearest person where people stand at random with this density.

    0.5 / sqrt(people per square metre); `density` counts people per disc of 2 m radius.
    """
    return 0.5 * torch.sqrt(2 * math.pi * DENSITY_SIGMA_M**2 / density.clamp(min=1e-6))


def suppress(xy: Tensor, radius: Tensor, usable: Tensor) -> Tensor:
    """Returns which of boxes at `xy` (B, N, 2), by falling score, greedy suppression keeps, (B, N).

    A box is dropped where a box before it, which is kept, has it within its own `radius` (B, N); boxes that are not
    `usable` (B, N) are dropped and drop none. All clouds at once: whether a box is kept is decided anew from those
    before it until nothing changes, which takes as many rounds as the longest chain of boxes that decide each other.
    """
    distance = torch.linalg.vector_norm(xy[:, :, None] - xy[:, None], dim=-1)
    drops = (distance <= radius[..., None]).triu(diagonal=1)
    kept = usable
    while True:
        following = usable & ~(drops & kept[..., None]).any(1)
        if torch.equal(following, kept):
            return kept
        kept = following
