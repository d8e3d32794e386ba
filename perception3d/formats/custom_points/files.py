"""The classes of one's own labelled clouds, a JSON file; without torch, to start fast.

Label files are those of SemanticKITTI: a little-endian uint32 a point, in its lower 16 bits the id of the class and in
its upper 16 the number of an object, 0 for none.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, unknown_name
from perception3d.files import read_json
from perception3d.structures.label_encoding import LabelEncoding
from perception3d.structures.point_labels import IGNORE

CLASSES_FILE = 'classes.json'
EXAMPLE = '{"classes": {"road": 40, "car": [10, 252]}, "ignored": [0], "things": ["car"]}'
_LARGEST_ID = (1 << 16) - 1


@dataclass(frozen=True)
class PointClasses:
    """What a file of classes says.

    Attributes:
        ids: class -> its ids in label files; the first one is written.
        ignored: ids of points that are not scored.
        things: classes whose objects are told apart, for panoptic quality.
    """

    ids: dict[str, list[int]]
    ignored: list[int]
    things: list[str] = field(default_factory=list)

    def encoding(self, classes: Sequence[str] | None = None) -> LabelEncoding:
        """Returns how labels of these classes, by default all, are stored; points of others are not labelled."""
        names = tuple(self.ids if classes is None else classes)
        for name in names:
            if name not in self.ids:
                raise unknown_name('class', name, self.ids)
        labels = {name: label for label, name in enumerate(names)}
        label_of = {number: labels.get(name, IGNORE) for name, ids in self.ids.items() for number in ids}
        label_of.update(dict.fromkeys(self.ignored, IGNORE))
        return LabelEncoding(names, label_of, tuple(self.ids[name][0] for name in names), has_objects=True)

    def to_plain(self) -> dict[str, Any]:
        """Returns plain data, as an info file keeps it; `PointClasses(**plain)` is the way back."""
        return asdict(self)


def cloud_name(folder: Path, frame_id: str, stored: Container[str]) -> str:
    """Returns the name of a frame's cloud, `.bin` or `.npy`, in a folder; `.bin` where it has none.

    Args:
        folder: for the error.
        frame_id: the name without the end.
        stored: names of the files in the folder.

    Raises:
        InputError: there are both.
    """
    names = [f'{frame_id}{suffix}' for suffix in ('.bin', '.npy')]
    found = [name for name in names if name in stored]
    if len(found) > 1:
        raise InputError(
            f'{folder} holds {" and ".join(found)}: expected one cloud for a frame; take the other one away'
        )
    return (found or names)[0]


def require_label_for_each_point(path: Path, num_labels: int, cloud: Path, points: npt.NDArray[np.float32]) -> None:
    """Raises InputError where a cloud has another number of points than labels; a raw file does not say its width."""
    if len(points) == num_labels:
        return
    fix = 'copy both files again'
    floats, rest = divmod(points.size, max(num_labels, 1))
    if cloud.suffix == '.bin':
        hint = f' ({floats} would fit)' if not rest and floats >= 3 else ''
        fix = f'give the floats of a point by --features{hint}, or {fix}'
    raise InputError(
        f'{path} holds {num_labels} labels, but its scan has {len(points)} points of {points.shape[1]} floats: '
        f'expected one label for each point; {fix}'
    )


def read_classes(path: str | Path) -> PointClasses:
    """Returns the classes of a JSON file such as EXAMPLE; their order is that of the labels.

    An id is 0..65535. Where nothing is `ignored`, the id 0 is, unless a class has it.

    Raises:
        InputError: the file is missing or is no such file; names the entry.
    """
    content = read_json(path, f'write the classes of your labels there: {EXAMPLE}')
    if not isinstance(content, dict) or not isinstance(content.get('classes'), dict) or not content['classes']:
        raise InputError(f'{path} names no classes: expected {EXAMPLE}')
    for key in content:
        if key not in ('classes', 'ignored', 'things'):
            raise unknown_name(f'entry of {path}', key, ('classes', 'ignored', 'things'))
    ids = {name: _ids(path, f'classes: {name}', value) for name, value in content['classes'].items()}
    if len(ids) >= IGNORE:
        raise InputError(f'{path} has {len(ids)} classes: expected fewer than {IGNORE}')
    used = [number for numbers in ids.values() for number in numbers]
    ignored = _ids(path, 'ignored', content.get('ignored', [] if 0 in used else [0]), may_be_empty=True)
    twice = sorted({number for number in used + ignored if (used + ignored).count(number) > 1})
    if twice:
        raise InputError(f'{path}: the id {twice[0]} stands twice: each id belongs to one class, or is ignored')
    things = content.get('things', [])
    if not isinstance(things, list):
        raise InputError(f'{path}: things is a list of classes: expected {EXAMPLE}')
    for name in things:
        if name not in ids:
            raise unknown_name(f'class (in things of {path})', name, ids)
    return PointClasses(ids, ignored, list(things))


def _ids(path: str | Path, place: str, value: Any, may_be_empty: bool = False) -> list[int]:
    ids = value if isinstance(value, list) else [value]
    whole = all(type(number) is int and 0 <= number <= _LARGEST_ID for number in ids)
    if not whole or not (ids or may_be_empty):
        raise InputError(f'{path}, {place}: expected an id of 0 to {_LARGEST_ID}, or a list of them, got {value!r}')
    return list(ids)


def classes_of_info(metainfo: Mapping[str, Any]) -> PointClasses | None:
    """Returns the classes that the `metainfo` of an info file keeps; None where there are none."""
    plain = metainfo.get('point_classes')
    return None if plain is None else PointClasses(**plain)


def encoding_of_ids(classes: Sequence[str], ids: Sequence[int]) -> LabelEncoding:
    """Returns how labels are written where only the id of each class is known, as from a checkpoint."""
    numbers = tuple(int(number) for number in ids)
    label_of = {number: label for label, number in enumerate(numbers)}
    return LabelEncoding(tuple(classes), label_of, numbers, has_objects=True)
