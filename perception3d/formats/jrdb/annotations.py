"""JRDB's annotations as they are released: JSON files of boxes in the clouds and in the stitched image.

`labels/labels_3d/SEQ.json` and `labels/labels_2d_stitched/SEQ.json` have 'labels': name of a file -> objects with
`label_id` ('pedestrian:12'), `box` and `attributes`. Boxes of the cloud: cx, cy, cz the MIDDLE, l, w, h, rot_z, in the
frame of the robot; of the image: x, y, width, height. Source: jrdb_toolkit, which converts them to text files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, is_number, is_whole
from perception3d.files import read_json
from perception3d.formats.jrdb.files import UNKNOWN, FrameObjects, frame_of_boxes
from perception3d.formats.jrdb.rules import OCCLUSIONS

_PREFIX = 'pedestrian:'
# Numbers of fewer digits fit into 64 bits.
_DIGITS = 19
_Objects = dict[str, dict[int, dict[str, Any]]]


@dataclass(frozen=True)
class Person:
    """A person of a frame.

    Attributes:
        track_id: the number in the label id.
        box: x, y, z of the BOTTOM's middle, l, w, h, yaw in the robot's frame; None where only the image has a box.
        box_px: x1, y1, x2, y2 in the stitched image; None where only the cloud has a box.
        num_points: LiDAR points in the box as annotated, -1 unknown.
        occlusion: 0 to 3, more is worse; -1 unknown.
        truncated: 0 or 1, -1 unknown.
    """

    track_id: int
    box: tuple[float, ...] | None
    box_px: tuple[float, ...] | None = None
    num_points: int = UNKNOWN
    occlusion: int = UNKNOWN
    truncated: int = UNKNOWN


def read_people(root: Path, sequence: str) -> dict[str, list[Person]]:
    """Returns name of a frame ('000123') -> its people, those who are in the image alone behind the others.

    The annotations of the image may be missing: then no occlusion is known. Objects that are not pedestrians are left
    out, as the toolkit does.

    Raises:
        InputError: a file is no JSON of labels, or an object has no id, box or finite numbers, or an id is in a frame
            twice.
    """
    clouds = _read(root / 'labels' / 'labels_3d' / f'{sequence}.json')
    path = root / 'labels' / 'labels_2d_stitched' / f'{sequence}.json'
    images = _read(path) if path.is_file() else {}
    found = {}
    for name, objects in sorted(clouds.items()):
        seen = images.get(name, {})
        place = f'{sequence}, frame {name}'
        people = [_person(place, number, entry, seen.get(number)) for number, entry in objects.items()]
        people += [_person(place, number, None, entry) for number, entry in seen.items() if number not in objects]
        found[name] = people
    return found


def _read(path: Path) -> _Objects:
    """Returns name of a frame -> number of a pedestrian -> its entry."""
    content = read_json(path, 'unpack the annotations of JRDB into labels/')
    frames = content.get('labels') if isinstance(content, dict) else None
    if not isinstance(frames, dict):
        raise InputError(f"{path} has no 'labels': it is not an annotation file of JRDB")
    found: _Objects = {}
    for name, entries in frames.items():
        own: dict[int, dict[str, Any]] = {}
        for k, entry in enumerate(entries if isinstance(entries, list) else [None]):
            label = entry.get('label_id') if isinstance(entry, dict) else None
            if not isinstance(label, str):
                raise InputError(f"{path}, frame {name}, object {k} has no 'label_id' such as pedestrian:12")
            if not label.startswith(_PREFIX):
                continue
            number = label.removeprefix(_PREFIX)
            if not (number.isdecimal() and len(number) < _DIGITS) or int(number) in own:
                raise InputError(f'{path}, frame {name}: {label[:80]!r} is there twice, or has no number')
            own[int(number)] = entry
        found[Path(name).stem] = own
    return found


def _person(place: str, number: int, cloud: dict[str, Any] | None, image: dict[str, Any] | None) -> Person:
    box = box_px = None
    points = occlusion = truncated = UNKNOWN
    if cloud is not None:
        values = _dict(cloud, 'box')
        x, y, z, length, width, height, yaw = (
            _finite(place, number, key, values.get(key)) for key in ('cx', 'cy', 'cz', 'l', 'w', 'h', 'rot_z')
        )
        yaw = (yaw + math.pi) % (2 * math.pi) - math.pi
        box = (x, y, z - height / 2, length, width, height, yaw)
        given = _dict(cloud, 'attributes').get('num_points', UNKNOWN)
        points = int(given) if is_whole(given) else UNKNOWN
    if image is not None:
        corners = image.get('box')
        if not isinstance(corners, list) or len(corners) != 4:
            raise InputError(
                f'{place}: pedestrian {number} has the image box {corners!r}, expected x, y, width, height'
            )
        left, top, wide, tall = (_finite(place, number, 'box', value) for value in corners)
        box_px = (left, top, left + wide, top + tall)
        attributes = _dict(image, 'attributes')
        level = attributes.get('occlusion')
        occlusion = OCCLUSIONS.index(level) if level in OCCLUSIONS else UNKNOWN
        truncated = int(str(attributes.get('truncated')).lower() == 'true')
    return Person(number, box, box_px, points, occlusion, truncated)


def _dict(entry: dict[str, Any], key: str) -> dict[str, Any]:
    value = entry.get(key)
    return value if isinstance(value, dict) else {}


def _finite(place: str, number: int, key: str, value: Any) -> float:
    if not is_number(value):
        raise InputError(f'{place}: {key} of pedestrian {number} is {str(value)[:80]}, expected a finite number')
    return float(value)


def text_of_people(people: list[Person]) -> FrameObjects:
    """Returns the truth of a frame for the benchmark; what is not known is -1, as the toolkit has it."""
    boxes = np.array([person.box or (0.0,) * 7 for person in people], np.float64).reshape(-1, 7)
    frame = frame_of_boxes(boxes, None, np.array([person.num_points for person in people], np.int64))
    objects = frame.objects
    flat = np.array([person.box is None for person in people], bool)
    for values in (objects.alpha_rad, objects.sizes_m, objects.bottom_centers_m, objects.rotation_y_rad):
        values[flat] = UNKNOWN
    objects.truncated[:] = [person.truncated for person in people]
    objects.occluded[:] = [person.occlusion for person in people]
    image: npt.NDArray[Any] = objects.boxes_2d
    for row, person in zip(image, people):
        row[:] = person.box_px or (UNKNOWN,) * 4
    return frame
