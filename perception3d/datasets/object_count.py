"""How many objects of a data set are trained on and why the others are not, in one line for each reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

OTHER_CLASS = 'their class is not among the classes of the data set'
EMPTY_2D = 'have a 2D box without height: they are neither pasted into other frames nor scored'
NO_LIDAR_POINTS = 'no LiDAR point lies in them (num_lidar_pts is 0; write 1 where it is not known)'
NO_POINTS = 'no LiDAR or radar point lies in them (num_lidar_pts, num_radar_pts are 0; write 1 where it is not known)'
# Objects within this many times the farthest corner of a range may come into it by an augmentation.
_REACH = 1.2


def has_empty_2d_box(box: Sequence[float]) -> bool:
    """Returns whether a 2D box (x1, y1, x2, y2) has no height; KITTI's benchmark selects objects by it."""
    return box[3] <= box[1]


class ObjectCount:
    """Counts the objects of one info file; the lines name `source`.

    Args:
        source: the info file.
        range_m: x0, y0, z0, x1, y1, z1 in metres; objects outside in x or y are left out. None for no range.
    """

    def __init__(self, source: str, range_m: Sequence[float] | None = None) -> None:
        self.source = source
        self.total = self.kept = self.in_range = self.in_reach = 0
        self._left_out: dict[str, Counter[str]] = {}
        self._remarks: dict[str, Counter[str]] = {}
        self._range = None if range_m is None else np.asarray(range_m, np.float64)

    def add(self, name: str, reason: str | None = None) -> None:
        """Counts an object of the class `name`, which is left out for the `reason`, if there is one."""
        self.total += 1
        if reason is None:
            self.kept += 1
        else:
            self._left_out.setdefault(reason, Counter())[name] += 1

    def remark(self, name: str, text: str) -> None:
        """Adds a remark about a counted object; the line reads `<count> of <total> objects <text>`."""
        self._remarks.setdefault(text, Counter())[name] += 1

    def add_places(self, boxes: np.ndarray) -> None:
        """Counts the boxes (N, >=2) that are within the range, by x and y of their centres in metres."""
        if self._range is None:
            self.in_range += len(boxes)
            self.in_reach += len(boxes)
            return
        low, high = self._range[:2], self._range[3:5]
        places = np.asarray(boxes, np.float64)[:, :2]
        self.in_range += int(((places > low) & (places < high)).all(1).sum())
        reach = _REACH * np.linalg.norm(np.maximum(np.abs(low), np.abs(high)))
        self.in_reach += int((np.linalg.norm(places, axis=1) < reach).sum())

    def left_out(self) -> list[str]:
        """Returns a line for each reason, without the source."""
        lines = [
            f'{sum(names.values())} of {self.total} objects are left out: {reason} ({_listed(names)})'
            for reason, names in self._left_out.items()
        ]
        lines += [
            f'{sum(names.values())} of {self.total} objects {text} ({_listed(names)})'
            for text, names in self._remarks.items()
        ]
        return lines

    def notes(self) -> list[str]:
        """Returns the lines that a training prints before it starts, one for each reason."""
        lines = self.left_out()
        outside = self.kept - self.in_range
        if self._range is not None and outside:
            lines.append(f'{outside} of {self.kept} objects lie outside {self._extent()} where nothing is augmented')
        return [f'{self.source}: {line}' for line in lines]

    def nothing_to_train_on(self) -> str | None:
        """Returns why no object is left, and what to do; None where there are some."""
        if not self.total:
            return f'{self.source} has no object to train on: write labels, and run tools/create_data.py again'
        if not self.kept:
            return f'{self.source} has no object to train on: {"; ".join(self.left_out())}'
        if self._range is not None and not self.in_reach:
            return (
                f'{self.source} has no object to train on: all {self.kept} objects lie outside {self._extent()}: '
                'correct the point_cloud_range, or the unit and the axes of the labels'
            )
        return None

    def _extent(self) -> str:
        assert self._range is not None, 'asked for where there is a range'
        x0, y0, x1, y1 = self._range[[0, 1, 3, 4]]
        return f'the range of ObjectRangeFilter (x {x0:g} to {x1:g} m, y {y0:g} to {y1:g} m)'


def _listed(names: Counter[str]) -> str:
    return ', '.join(f'{name} {count}' for name, count in sorted(names.items()))


def count_labels(
    source: str, infos: Iterable[Mapping[str, Any]], classes: Sequence[str], range_m: Sequence[float] | None = None
) -> ObjectCount:
    """Counts the objects of infos whose instances have names; DontCare is not an object."""
    count = ObjectCount(source, range_m)
    for info in infos:
        for instance in info['instances']:
            name = instance['name']
            if name == 'DontCare':
                continue
            known = name in classes
            count.add(name, None if known else OTHER_CLASS)
            if known and 'bbox' in instance and has_empty_2d_box(instance['bbox']):
                count.remark(name, EMPTY_2D)
    return count


def object_range(pipeline: Any) -> Sequence[float] | None:
    """Returns the range of the first ObjectRangeFilter in a composed pipeline or in one of its steps, or None."""
    from mmdet3d.datasets.transforms import ObjectRangeFilter

    for step in getattr(pipeline, 'transforms', ()):
        if isinstance(step, ObjectRangeFilter):
            return step.pcd_range
        for part in vars(step).values():
            found = object_range(part)
            if found is not None:
                return found
    return None
