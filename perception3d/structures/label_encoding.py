"""How a data format stores the labels of points: one whole number a point, with the format's own class ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, require_file
from perception3d.structures.point_labels import IGNORE

_UNKNOWN = -1
_OBJECT_BITS = 16


@dataclass(frozen=True)
class LabelEncoding:
    """The class ids of a format, and its label files.

    Attributes:
        classes: K names; their places are the labels in this package.
        label_of: id in a file -> label, or IGNORE for an id that is not scored; an id that is not here is an error.
        id_of: K ids, what is written for each class.
        dtype: of the numbers in a file.
        has_objects: the numbers have the id in their lower 16 bits and the number of an object in their upper 16.
    """

    classes: tuple[str, ...]
    label_of: Mapping[int, int]
    id_of: tuple[int, ...]
    dtype: str = '<u4'
    has_objects: bool = False

    @cached_property
    def _labels(self) -> npt.NDArray[np.int64]:
        """Label of each id, and behind the last one that of all larger ids."""
        table = np.full(max(self.label_of, default=0) + 2, _UNKNOWN, np.int64)
        table[list(self.label_of)] = list(self.label_of.values())
        return table

    @cached_property
    def _ids(self) -> npt.NDArray[Any]:
        """Id of each label; of all others the id 0."""
        table = np.zeros(max(IGNORE, len(self.id_of)) + 1, np.dtype(self.dtype))
        table[: len(self.id_of)] = self.id_of
        return table

    def read(self, path: str | Path, num_points: int | None = None, longer: bool = False) -> npt.NDArray[Any]:
        """Returns the numbers (N,) of a label file, as stored.

        With `longer` the file may go on with the points of earlier scans, which are left out.

        Raises:
            InputError: the file is missing or truncated, or does not hold `num_points` numbers.
        """
        path = require_file(path, 'check the data root and that the archive was unpacked completely')
        size, width = path.stat().st_size, np.dtype(self.dtype).itemsize
        if size % width:
            raise InputError(f'{path} is truncated: {size} bytes is not a multiple of {width} ({self.dtype} a point)')
        require_count(path, size // width, num_points, longer)
        return np.fromfile(path, self.dtype, -1 if num_points is None else num_points)

    def ids(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the class ids (N,) in the numbers of a file."""
        ids: npt.NDArray[Any] = stored & np.dtype(self.dtype).type(0xFFFF) if self.has_objects else stored
        return ids

    def labels(self, stored: npt.NDArray[Any], source: str | Path) -> npt.NDArray[np.int64]:
        """Returns the labels (N,) int64 of the numbers of a file, IGNORE where there is none.

        Raises:
            InputError: an id that the format does not have; names `source`, the file.
        """
        ids = self.ids(stored)
        labels: npt.NDArray[np.int64] = self._labels[np.minimum(ids, len(self._labels) - 1)]
        unknown = np.flatnonzero(labels == _UNKNOWN)
        if len(unknown):
            listed = _listed(np.unique(ids[unknown]))
            example = f'{self.id_of[0]} is {self.classes[0]}' if self.classes else 'none is known'
            raise InputError(
                f'{source} holds the unknown label ids {listed} in {len(unknown)} of {len(ids)} points (first: point '
                f'{unknown[0]}): expected the ids of the data format, of which {example}'
            )
        return labels

    def objects(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
        """Returns which object each point belongs to, (N,) int64, 0 for none; None where they are not stored.

        It is the whole number of the file, since formats count objects within a class.
        """
        if not self.has_objects:
            return None
        objects: npt.NDArray[np.int64] = np.where(stored >> _OBJECT_BITS, stored, 0).astype(np.int64)
        return objects

    def encode(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the ids (N,) of labels (N,), as a file stores them; the id 0 of labels that are no class."""
        labels = np.asarray(labels, np.int64)
        known = (labels >= 0) & (labels < len(self.id_of))
        encoded: npt.NDArray[Any] = self._ids[np.where(known, labels, len(self.id_of))]
        return encoded


def require_count(path: str | Path, count: int, num_points: int | None, longer: bool = False) -> None:
    """Raises InputError unless a file of `count` labels has one for each of `num_points` points; None is any number.

    With `longer` more labels may follow, see `LabelEncoding.read`.
    """
    if num_points is None or count == num_points or (longer and count > num_points):
        return
    behind = ' (more may follow, of earlier scans)' if longer else ''
    raise InputError(
        f'{path} holds {count} labels, but its scan has {num_points} points: expected one label for each '
        f'point{behind}; copy or write the file again'
    )


def _listed(ids: Sequence[int] | npt.NDArray[Any]) -> str:
    return ', '.join(str(number) for number in ids[:3]) + (f' and {len(ids) - 3} more' if len(ids) > 3 else '')
