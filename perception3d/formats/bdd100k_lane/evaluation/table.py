"""BDD100K's official lane table: F-scores of thin markings by attribute, at distances of 1, 2 and 5 pixels.

A pixel of a marking is matched if the other image has a pixel of the same attribute within the distance. The official
tool dilates a mask of each of twelve classes at each distance; here a pixel holds the set of its classes as bits, so
one dilation by OR serves all classes, and only pixels on markings are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.formats.bdd100k_lane.files import TASKS, Bytes, attribute_of_byte

THRESHOLDS_PX = (1, 2, 5)
Scores = npt.NDArray[np.float64]
_Sets = npt.NDArray[np.uint16]


def _sets_of_bytes() -> tuple[_Sets, dict[str, slice]]:
    """Returns the set of classes of each byte, a bit a class, and which bits belong to an attribute."""
    sets, bits, first = np.zeros(256, np.uint16), {}, 0
    for task, names in TASKS.items():
        value = attribute_of_byte(task)
        sets |= np.where(value < 0, 0, 1 << (first + np.maximum(value, 0))).astype(np.uint16)
        bits[task] = slice(first, first + len(names))
        first += len(names)
    return sets, bits


_SET_OF_BYTE, _BITS = _sets_of_bytes()
_NUM_CLASSES = sum(len(names) for names in TASKS.values())
# (4096, 12): whether a set has a class.
_HAS_CLASS = (np.arange(1 << _NUM_CLASSES)[:, None] >> np.arange(_NUM_CLASSES) & 1).astype(np.int64)


def image_scores(truth: Bytes, predicted: Bytes) -> Scores:
    """Returns the F-scores (12, 3) in 0..1 of an image: the classes of all attributes, at each of THRESHOLDS_PX.

    Recall is the share of annotated pixels of a class that have a predicted one of that class within the distance,
    precision the same the other way round. A class that neither image has scores 1, one that a single image has 0.

    Args:
        truth, predicted: label bytes (H, W), see `files.attribute_of_byte`, of the same size.
    """
    rows = np.flatnonzero(((truth & 8) == 0).any(axis=1) | ((predicted & 8) == 0).any(axis=1))
    kept = slice(rows[0], rows[-1] + 1) if len(rows) else slice(0, 0)
    sets = [_SET_OF_BYTE[image[kept]] for image in (truth, predicted)]
    on_marking = [image != 0 for image in sets]
    found = [image[mask] for image, mask in zip(sets, on_marking)]
    num_truth, num_predicted = (_count(part) for part in found)
    scores = np.empty((_NUM_CLASSES, len(THRESHOLDS_PX)))
    near_truth, near_predicted = (_dilated(image) for image in sets)
    for column, (by_truth, by_predicted) in enumerate(zip(near_truth, near_predicted)):
        matched_truth = _count(found[0] & by_predicted[on_marking[0]])
        matched_predicted = _count(found[1] & by_truth[on_marking[1]])
        recall = np.where(num_truth > 0, matched_truth / np.maximum(num_truth, 1), 1.0)
        precision = np.where(num_predicted > 0, matched_predicted / np.maximum(num_predicted, 1), 1.0)
        both = precision + recall
        scores[:, column] = np.where(both == 0, 0.0, 2.0 * precision * recall / np.where(both == 0, 1.0, both))
    return scores


def _count(sets: _Sets) -> npt.NDArray[np.int64]:
    """Returns how many of the sets have each class."""
    counts: npt.NDArray[np.int64] = np.bincount(sets, minlength=1 << _NUM_CLASSES) @ _HAS_CLASS
    return counts


def _dilated(image: _Sets) -> list[_Sets]:
    """Returns, for each of THRESHOLDS_PX, the sets (H, W) of all classes that a pixel has within that distance.

    A disk is one run of pixels in each of its rows: its union is that of runs, first along x, then along y.
    """
    runs = [image]
    for reach in range(1, max(THRESHOLDS_PX) + 1):
        run = runs[-1].copy()
        run[:, reach:] |= image[:, :-reach]
        run[:, :-reach] |= image[:, reach:]
        runs.append(run)
    disks = []
    for radius in THRESHOLDS_PX:
        disk = runs[radius].copy()
        for step in range(1, radius + 1):
            run = runs[math.isqrt(radius**2 - step**2)]
            disk[step:] |= run[:-step]
            disk[:-step] |= run[step:]
        disks.append(disk)
    return disks


def mean_table(images: Sequence[Scores]) -> dict[str, Any]:
    """Returns the table of all images, in percent: attribute -> distance in pixels -> class and `avg`; and `total`.

    The means are taken in the order of the official tool, over images, classes and attributes, to the same bit.

    Args:
        images: of `image_scores`, one or more.
    """
    table: dict[str, Any] = {}
    means = []
    for task, names in TASKS.items():
        scores = np.stack([image[_BITS[task]] for image in images]).mean(axis=0)
        scores *= 100
        mean = scores.mean(axis=0, keepdims=True)[0]
        means.append(mean)
        rows = [*scores, mean]
        table[task] = {
            f'{distance:.1f}': {name: float(row[column]) for name, row in zip((*names, 'avg'), rows)}
            for column, distance in enumerate(THRESHOLDS_PX)
        }
    total = np.stack(means).mean(axis=0)
    table['total'] = {f'{distance:.1f}': float(total[column]) for column, distance in enumerate(THRESHOLDS_PX)}
    return table


def table_lines(table: dict[str, Any]) -> list[str]:
    """Returns the sixteen rows of the official table as text."""
    columns = [f'{distance:.1f}' for distance in THRESHOLDS_PX]
    lines = [f'{"F-score, %":<26}' + ''.join(f'{distance + " px":>9}' for distance in columns)]
    for task, names in TASKS.items():
        for name in (*names, 'avg'):
            values = [table[task][distance][name] for distance in columns]
            lines.append(f'{f"{task}: {name}":<26}' + ''.join(f'{value:>9.2f}' for value in values))
    lines.append(f'{"total":<26}' + ''.join(f'{table["total"][distance]:>9.2f}' for distance in columns))
    return lines
