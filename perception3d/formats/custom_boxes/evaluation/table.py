"""What the LiDAR-frame scores are called and how they are printed; settings by class and range; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from perception3d.checks import InputError, unknown_name
from perception3d.formats.custom_boxes.evaluation.ap import DISTANCES_M, LidarScores

Ranges = Sequence[tuple[float, float]]


def class_thresholds(iou_thresholds: float | Mapping[str, float], classes: Sequence[str]) -> list[float]:
    """Returns the IoU threshold of each class, of one number for all or of numbers by class name.

    Raises InputError: an unknown class, or one without threshold.
    """
    if not isinstance(iou_thresholds, Mapping):
        return [float(iou_thresholds)] * len(classes)
    for name in iou_thresholds:
        if name not in classes:
            raise unknown_name('class in iou_thresholds', name, classes)
    lacking = [name for name in classes if name not in iou_thresholds]
    if lacking:
        raise InputError(f'iou_thresholds has no entry for {", ".join(lacking)}')
    return [float(iou_thresholds[name]) for name in classes]


def require_ranges(range_bins_m: Sequence[tuple[float, float | None]]) -> list[tuple[float, float]]:
    """Returns ranges (low, high) in metres, a high of None as infinity; InputError where a range is invalid."""
    ranges = [(float(low), np.inf if high is None else float(high)) for low, high in range_bins_m]
    if any(not 0 <= low < high for low, high in ranges):
        raise InputError(f'range_bins_m holds (low, high) with 0 <= low < high, got {list(range_bins_m)}')
    return ranges


def _prefixes(ranges: Ranges) -> list[str]:
    return ['', *(f'{low:g}-{"" if np.isinf(high) else f"{high:g}"}m/' for low, high in ranges)]


def flatten(classes: Sequence[str], ranges: Ranges, scores_by_range: Sequence[LidarScores]) -> dict[str, float]:
    """Returns the scores of all ranges and of each, as of `lidar_scores`, in one flat dict.

    Keys: `<measure>/<class>` and `<measure>/mAP`, the mean over the classes that have objects (the others have no key),
    for the measures bev, 3d, distance (mean over DISTANCES_M) and distance@<d>m; a range stands before the class.
    """
    flat: dict[str, float] = {}
    for prefix, part in zip(_prefixes(ranges), scores_by_range, strict=True):
        measures = {'bev': part.bev, '3d': part.space, 'distance': part.distance.mean(1)}
        measures.update({f'distance@{d:g}m': part.distance[:, k] for k, d in enumerate(DISTANCES_M)})
        for measure, values in measures.items():
            known = {name: float(value) for name, value in zip(classes, values, strict=True) if value == value}
            flat.update({f'{measure}/{prefix}{name}': value for name, value in known.items()})
            if known:
                flat[f'{measure}/{prefix}mAP'] = float(np.mean(list(known.values())))
    return flat


def table(classes: Sequence[str], ranges: Ranges, scores_by_range: Sequence[LidarScores]) -> str:
    """Returns the scores as text: one row for each class, then for each class in each range."""
    titles = ['BEV', '3D', *(f'{distance:g} m' for distance in DISTANCES_M), 'objects', 'detections']
    lines = [f'{"AP in percent":<32}' + ''.join(f'{title:>9}' for title in titles)]
    for prefix, part in zip(_prefixes(ranges), scores_by_range, strict=True):
        for c, name in enumerate(classes):
            values = [part.bev[c], part.space[c], *part.distance[c]]
            cells = ''.join(f'{"-":>9}' if np.isnan(value) else f'{value:>9.2f}' for value in values)
            lines.append(f'{prefix + name:<32}{cells}{part.objects[c]:>9}{part.detections[c]:>9}')
    return '\n'.join(lines)
