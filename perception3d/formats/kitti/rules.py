"""The rules of KITTI's object benchmark: its types and classes, when an object counts, and what is a match; no torch.

Source: the C++ development kit of the benchmark (Geiger et al. 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

CATEGORIES = ('Pedestrian', 'Cyclist', 'Car', 'Van', 'Truck', 'Person_sitting', 'Tram', 'Misc')
"""The types of the benchmark's labels in mmdet3d's order; DontCare and any other type have the label -1."""
CLASSES = CATEGORIES[:3]
"""The classes that are scored, in mmdet3d's order: that of the labels in training."""
DONT_CARE = 'DontCare'
"""The type of image regions in which nothing is labelled."""


@dataclass(frozen=True)
class Difficulty:
    """Which objects count: 2D boxes of this height in pixels or more, up to this occlusion (0..3) and truncation."""

    name: str
    min_height_px: float
    max_occlusion: int
    max_truncation: float


DIFFICULTIES = (
    Difficulty('easy', 40.0, 0, 0.15),
    Difficulty('moderate', 25.0, 1, 0.30),
    Difficulty('hard', 25.0, 2, 0.50),
)


@dataclass(frozen=True)
class Overlaps:
    """The IoU that a match must exceed, by metric: in the image, in bird's-eye view and in 3D."""

    image: float
    bev: float
    space: float

    def of(self, metric: str) -> float:
        """Returns the overlap of a metric: '2d', 'aos' (as 2D), 'bev' or '3d'."""
        return {'2d': self.image, 'aos': self.image, 'bev': self.bev, '3d': self.space}[metric]


@dataclass(frozen=True)
class ScoredClass:
    """How a class is scored.

    name: in the scores; in label files the first letter is a capital. neighbour: the type whose objects count neither
    as hits nor as misses, since they look alike; None without. strict: the official overlaps. loose: mmdet3d's second
    set, not official.
    """

    name: str
    neighbour: str | None
    strict: Overlaps
    loose: Overlaps

    def overlaps(self, name: str) -> Overlaps:
        """Returns the set 'strict' or 'loose'."""
        return {'strict': self.strict, 'loose': self.loose}[name]


SCORED = (
    ScoredClass('car', 'Van', Overlaps(0.7, 0.7, 0.7), Overlaps(0.7, 0.5, 0.5)),
    ScoredClass('pedestrian', 'Person_sitting', Overlaps(0.5, 0.5, 0.5), Overlaps(0.5, 0.25, 0.25)),
    ScoredClass('cyclist', None, Overlaps(0.5, 0.5, 0.5), Overlaps(0.5, 0.25, 0.25)),
)
"""The scored classes in the order of the benchmark's tables."""
