"""One colour a class, the same in every picture, video and 3D view."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

# RGB. Bright enough for a dark BEV picture, saturated enough for a grey street, apart from each other in Lab.
_RGB = {
    'car': (64, 160, 255),
    'truck': (255, 140, 30),
    'trailer': (205, 160, 110),
    'bus': (255, 225, 50),
    'construction_vehicle': (150, 205, 30),
    'bicycle': (50, 235, 195),
    'motorcycle': (175, 120, 255),
    'pedestrian': (255, 70, 80),
    'traffic_cone': (255, 130, 215),
    'barrier': (205, 210, 220),
    # Near those of SemanticKITTI, but bright, and apart from the road users.
    'road': (255, 0, 255),
    'sidewalk': (165, 135, 225),
    'parking': (240, 180, 210),
    'building': (225, 165, 15),
    'vegetation': (15, 180, 15),
    'trunk': (210, 120, 60),
    'terrain': (135, 255, 90),
    'other-ground': (165, 150, 120),
    'fence': (120, 150, 60),
    'pole': (255, 255, 195),
    'traffic-sign': (255, 255, 0),
    'other-vehicle': (255, 60, 165),
    'bicyclist': (75, 150, 165),
    'motorcyclist': (195, 255, 255),
    # Slots of lanes: neighbours far apart, the borders of the ego lane green and blue.
    'left-3': (235, 90, 255),
    'left-2': (255, 150, 40),
    'left-1': (90, 255, 90),
    'right-1': (70, 170, 255),
    'right-2': (255, 235, 60),
    'right-3': (255, 80, 110),
    # Points whose predicted label is not the annotated one.
    'wrong': (255, 0, 0),
    # Predictions next to what is annotated.
    'true_positive': (70, 230, 100),
    'false_positive': (255, 70, 70),
    'false_negative': (255, 225, 50),
    'ignored': (150, 150, 160),
}

OTHER = 'other'
"""The class of what has an unknown label."""

# Names that other data sets use for the same thing.
_SAME_AS = {
    'cyclist': 'bicycle',
    'person': 'pedestrian',
    'person_sitting': 'pedestrian',
    'van': 'truck',
    'tram': 'bus',
    'driveable_surface': 'road',
    'l1': 'left-2',
    'l0': 'left-1',
    'r0': 'right-1',
    'r1': 'right-2',
    'lane': 'left-1',
    'other_flat': 'parking',
    'manmade': 'building',
}


# SemanticKITTI's names of moving objects begin so.
_MOVING = 'moving-'


def class_color(name: str) -> tuple[int, int, int]:
    """Returns the (blue, green, red) colour of a class, 0..255.

    Known road users have fixed colours, other names get one that depends on the name alone, so that it is the same
    in every run and does not move when a class is added. A `moving-` class has that of the standing one, darker.
    """
    key = str(name).strip().lower().replace(' ', '_')
    plain = key.removeprefix(_MOVING)
    rgb = _RGB.get(_SAME_AS.get(plain, plain)) or _color_from_name(plain)
    if plain != key:
        rgb = _darker(rgb)
    return rgb[2], rgb[1], rgb[0]


def class_colors(names: Sequence[str]) -> np.ndarray:
    """Returns the colours of `names` as (K, 3) uint8 in BGR order."""
    return np.array([class_color(name) for name in names], np.uint8).reshape(-1, 3)


def label_colors(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Returns the colours (N, 3) uint8 BGR of labels (N,); a label outside `classes` has the colour of "other"."""
    labels = np.ravel(labels)
    known = (labels >= 0) & (labels < len(classes))
    colors: np.ndarray = _table(tuple(classes))[np.where(known, labels, len(classes))]
    return colors


@lru_cache(maxsize=64)
def _table(classes: tuple[str, ...]) -> np.ndarray:
    return class_colors([*classes, OTHER])


def _darker(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (round(0.7 * value) for value in rgb)
    return red, green, blue


def _color_from_name(key: str) -> tuple[int, int, int]:
    digest = zlib.crc32(key.encode())
    hue, saturation = (digest & 0xFFFF) / 0x10000, 0.45 + 0.4 * ((digest >> 16) & 0xFF) / 255
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
