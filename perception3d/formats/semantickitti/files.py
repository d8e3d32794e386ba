"""SemanticKITTI's classes, splits and folders, and readers of its files; without torch, to start fast.

Layout, ids and learning maps are those of the official tools, semantic-kitti-api.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from perception3d.structures.label_encoding import LabelEncoding
from perception3d.structures.point_labels import IGNORE

POINT_FEATURES = 4
"""Floats a point of a scan: x, y, z in metres (x forward, y left, z up), remission in 0..1."""

LABEL_IDS = {
    'unlabeled': 0, 'outlier': 1, 'car': 10, 'bicycle': 11, 'bus': 13, 'motorcycle': 15, 'on-rails': 16, 'truck': 18,
    'other-vehicle': 20, 'person': 30, 'bicyclist': 31, 'motorcyclist': 32, 'road': 40, 'parking': 44, 'sidewalk': 48,
    'other-ground': 49, 'building': 50, 'fence': 51, 'other-structure': 52, 'lane-marking': 60, 'vegetation': 70,
    'trunk': 71, 'terrain': 72, 'pole': 80, 'traffic-sign': 81, 'other-object': 99, 'moving-car': 252,
    'moving-bicyclist': 253, 'moving-person': 254, 'moving-motorcyclist': 255, 'moving-on-rails': 256,
    'moving-bus': 257, 'moving-truck': 258, 'moving-other-vehicle': 259,
}  # fmt: skip
"""Annotated name -> id in the lower 16 bits of a label."""

CLASSES = (
    'car', 'bicycle', 'motorcycle', 'truck', 'other-vehicle', 'person', 'bicyclist', 'motorcyclist', 'road', 'parking',
    'sidewalk', 'other-ground', 'building', 'fence', 'vegetation', 'trunk', 'terrain', 'pole', 'traffic-sign',
)  # fmt: skip
"""The 19 classes of the single scan benchmark, in its order."""

MULTI_SCAN_CLASSES = (
    *CLASSES, 'moving-car', 'moving-bicyclist', 'moving-person', 'moving-motorcyclist', 'moving-other-vehicle',
    'moving-truck',
)  # fmt: skip
"""The 25 classes of the multi scan benchmark, in its order."""

# In the order in which the official panoptic tool averages them: the last bit of a mean depends on it.
THINGS = ('car', 'truck', 'bicycle', 'motorcycle', 'other-vehicle', 'person', 'bicyclist', 'motorcyclist')
"""The classes whose objects are told apart."""
STUFF = (
    'road', 'sidewalk', 'parking', 'other-ground', 'building', 'vegetation', 'trunk', 'terrain', 'fence', 'pole',
    'traffic-sign',
)  # fmt: skip
"""The other classes."""

SEQUENCES = {
    'train': ('00', '01', '02', '03', '04', '05', '06', '07', '09', '10'),
    'val': ('08',),
    'trainval': ('00', '01', '02', '03', '04', '05', '06', '07', '08', '09', '10'),
    'test': ('11', '12', '13', '14', '15', '16', '17', '18', '19', '20', '21'),
}
"""Split -> its sequences; those of test have no public labels."""

# Annotated names that the benchmark puts into another class; the names that are missing are not scored.
_MERGED = {
    'bus': 'other-vehicle', 'on-rails': 'other-vehicle', 'lane-marking': 'road',
    'moving-on-rails': 'moving-other-vehicle', 'moving-bus': 'moving-other-vehicle',
}  # fmt: skip


def class_of(name: str, moving: bool) -> str | None:
    """Returns the class of an annotated name, or None for what is not scored; `moving`: moving objects are apart."""
    merged = _MERGED.get(name, name)
    merged = merged if moving else merged.removeprefix('moving-')
    return merged if merged in MULTI_SCAN_CLASSES else None


@lru_cache(maxsize=8)
def label_encoding(classes: Sequence[str] = CLASSES) -> LabelEncoding:
    """Returns how labels of these classes, a tuple, are stored.

    Moving objects are classes apart where one of the `moving-` names is among the classes, as in the multi scan
    benchmark. An annotated name whose class is not among them is not labelled.
    """
    moving = any(name.startswith('moving-') for name in classes)
    labels = {name: label for label, name in enumerate(classes)}
    label_of = {number: labels.get(class_of(name, moving) or '', IGNORE) for name, number in LABEL_IDS.items()}
    return LabelEncoding(tuple(classes), label_of, tuple(LABEL_IDS[name] for name in classes), has_objects=True)


def split_name(frame_id: str) -> tuple[str, str]:
    """Returns sequence and scan, '08' and '000123', of a frame id '08_000123'."""
    sequence, _, scan = frame_id.partition('_')
    return sequence, scan
