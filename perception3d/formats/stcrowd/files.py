"""The files of STCrowd: annotations and results (JSON), splits and the camera; errors name file, frame and item.

Layout of the release: `anno/SEQ.json`, `left/SEQ/*.jpg`, `right/SEQ/*.jpg`, `pcd/SEQ/*.bin` (float32 x, y, z,
reflectivity), `split.json`, `camera.json`. There is no documentation of the JSON: its keys are those that the converter
of the data set and its users read (github.com/4DVLab/STCrowd). LiDAR frame: x forward, y left, z up, metres. Cloud and
image of a frame belong together by the JSON alone: their time stamps differ by a delay.

A result has the same layout, with a `score` for each item of the LiDAR; its `id` may be left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.files import read_json, write_json
from perception3d.formats.stcrowd.json_values import number_of, occlusion_of, pair_of, triple_of, whole_of

NUM_FEATURES = 4
"""float32 numbers of a point: x, y, z in metres, reflectivity."""
SPLITS = ('train', 'val', 'test')
_Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Person:
    """A person in the cloud.

    Attributes:
        track_id: the same in all frames of a sequence and in its images; None where it is not known.
        center_m: MIDDLE of the box, LiDAR frame.
        size_m: extents along x, y and z before the rotation: length, width, height.
        yaw_rad: as the file has it. Which way it turns is not documented: see `yaw_sign` of `info.py`.
        occlusion: 0, 1 or 2, more is worse; None where it is not known.
        score: of a result; None in truth.
        is_person: False where `category` is another one.
    """

    track_id: int | None
    center_m: _Triple
    size_m: _Triple
    yaw_rad: float
    occlusion: int | None = None
    score: float | None = None
    is_person: bool = True


@dataclass(frozen=True)
class PersonInImage:
    """A person in an image, who is labelled independently of the cloud: one who is hidden from the LiDAR is only here.

    corners_px: the 8 corners of the cuboid in the image. box_px: x, y of the upper left corner, width, height, as
    others read it; None where the file has none.
    """

    track_id: int | None
    corners_px: tuple[tuple[float, float], ...]
    box_px: tuple[float, float, float, float] | None
    occlusion: int | None = None


@dataclass(frozen=True)
class Image:
    """An image of a frame. path: as the file has it. side: 'left' or 'right'."""

    path: str
    side: str
    people: tuple[PersonInImage, ...] = ()


@dataclass(frozen=True)
class Frame:
    """A frame. frame_id: number in its sequence, from 0. cloud_path: as the file has it."""

    frame_id: int
    cloud_path: str
    people: tuple[Person, ...] = ()
    images: tuple[Image, ...] = ()

    def image(self, side: str = 'left') -> Image | None:
        """Returns the image of a side, if there is one."""
        return next((image for image in self.images if image.side == side), None)


@dataclass(frozen=True)
class Sequence:
    """A sequence, or the results of one.

    Attributes:
        name: of its file, such as '12'.
        frames: in the order of the file.
        group_id: as the file has it, None without.
        scene_class: a number whose meaning is not documented, as the file has it, None without.
    """

    name: str
    frames: tuple[Frame, ...]
    group_id: Any = None
    scene_class: Any = None


@dataclass(frozen=True)
class Camera:
    """The left camera. The right one was never published.

    img_from_cam: (4, 4) intrinsics, pixels times depth from x right, y down, z forward. cam_from_lidar: (4, 4).
    """

    img_from_cam: npt.NDArray[Any]
    cam_from_lidar: npt.NDArray[Any]


def sequence_name(name: str) -> str:
    """Returns the name of a sequence in tokens of samples: '012' for '12'."""
    return name.zfill(3)


def frame_token(name: str, frame_id: int) -> str:
    """Returns the token of a frame: '012_000345' for frame 345 of sequence '12'."""
    return f'{sequence_name(name)}_{frame_id:06d}'


def read_sequence(path: str | Path, scored: bool = False) -> Sequence:
    """Returns the sequence of an annotation file, or of a result file if `scored`.

    Numbers may be texts. What the file leaves open is made clear here: an `occlusion` other than 0, 1, 2 is unknown, as
    a missing `id` is; of several people of a frame with one `id` the first has it, in truth; the side of an image is
    that of its folder, since right images are marked as left ones too, and without such a folder the first image is the
    left one. `number`, `group` and `isValid` are not read: their meaning is not documented.

    Raises:
        InputError: no JSON, no frames, a frame without `items` (one without people has an empty list), a number that
            is missing or not finite, a size below 0, a frame that is there twice; in results also a missing score, and
            an id that is in a frame twice.
    """
    path = Path(path)
    content = read_json(path, 'a sequence is described by anno/SEQUENCE.json')
    frames = content.get('frames') if isinstance(content, dict) else None
    if not isinstance(frames, list):
        raise InputError(f"{path} has no list 'frames': it is not an annotation or result file of STCrowd")
    read: dict[int, Frame] = {}
    for index, entry in enumerate(frames):
        frame = _frame(f'{path}, frame {index}', entry, index, scored)
        if frame.frame_id in read:
            raise InputError(f'{path}, frame {index}: frameId {frame.frame_id} is there already: number frames from 0')
        read[frame.frame_id] = frame
    return Sequence(path.stem, tuple(read.values()), content.get('group_id'), content.get('scene_class'))


def _frame(place: str, entry: Any, index: int, scored: bool) -> Frame:
    items = entry.get('items') if isinstance(entry, dict) else None
    if not isinstance(items, list):
        raise InputError(f"{place} has no list 'items': expected the people of the frame, [] where there are none")
    people = tuple(_person(f'{place}, item {k}', item, scored) for k, item in enumerate(items))
    frame_id = entry.get('frameId')
    images = entry.get('images')
    return Frame(
        index if frame_id is None else whole_of(place, 'frameId', frame_id),
        str(entry.get('frame_name') or ''),
        _with_own_ids(place, people, scored),
        _images(place, images if isinstance(images, list) else []),
    )


def _with_own_ids(place: str, people: tuple[Person, ...], scored: bool) -> tuple[Person, ...]:
    """Returns the people; an id that the frame has twice is an error in results, and in truth is the first one's."""
    taken: set[int] = set()
    kept = []
    for person in people:
        if person.track_id in taken:
            if scored:
                raise InputError(f'{place} has the id {person.track_id} twice: write each track once a frame')
            person = replace(person, track_id=None)
        elif person.track_id is not None:
            taken.add(person.track_id)
        kept.append(person)
    return tuple(kept)


def _person(place: str, item: Any, scored: bool) -> Person:
    if not isinstance(item, dict):
        raise InputError(f'{place} is {item!r}: expected a person with position, boundingbox and rotation')
    size = triple_of(place, 'boundingbox', item.get('boundingbox'))
    if min(size) < 0:
        raise InputError(f'{place}: boundingbox is {size}: expected sizes of 0 or more, metres')
    track_id = item.get('id')
    return Person(
        None if track_id is None else whole_of(place, 'id', track_id),
        triple_of(place, 'position', item.get('position')),
        size,
        number_of(place, 'rotation', item.get('rotation')),
        occlusion_of(item.get('occlusion')),
        number_of(place, 'score', item.get('score')) if scored else None,
        str(item.get('category', 'person')).lower() == 'person',
    )


def _images(place: str, entries: list[Any]) -> tuple[Image, ...]:
    found = []
    for k, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get('image_name'), str):
            raise InputError(f"{place}, image {k} has no 'image_name': expected the path of a file")
        folders = Path(entry['image_name']).parts[:-1]
        side = next((part for part in reversed(folders) if part in ('left', 'right')), 'right' if k else 'left')
        items = entry.get('items')
        people = enumerate(items if isinstance(items, list) else [])
        found.append(
            Image(
                entry['image_name'],
                side,
                tuple(_person_in_image(f'{place}, image {k}, item {j}', item) for j, item in people),
            )
        )
    return tuple(found)


def _person_in_image(place: str, item: Any) -> PersonInImage:
    points = item.get('points') if isinstance(item, dict) else None
    if not isinstance(points, list) or len(points) not in (0, 8):
        raise InputError(f"{place}: expected 'points', the 8 corners of a cuboid")
    corner, extent = item.get('boundingbox'), item.get('dimension')
    box = None
    if corner is not None and extent is not None:
        box = (*pair_of(place, 'boundingbox', corner), *pair_of(place, 'dimension', extent))
    track_id = item.get('id')
    return PersonInImage(
        None if track_id is None else whole_of(place, 'id', track_id),
        tuple(pair_of(place, 'points', point) for point in points),
        box,
        occlusion_of(item.get('occlusion')),
    )


def write_sequence(path: str | Path, sequence: Sequence) -> None:
    """Writes an annotation file, or a result file where people have scores; `read_sequence` gives the same back."""
    frames = [
        {
            'frameId': frame.frame_id,
            'frame_name': frame.cloud_path,
            'items': [_item(number, person) for number, person in enumerate(frame.people)],
            'images': [_image_entry(image) for image in frame.images],
        }
        for frame in sequence.frames
    ]
    content: dict[str, Any] = {'group_id': sequence.group_id, 'total_number': len(frames), 'frames': frames}
    if sequence.scene_class is not None:
        content['scene_class'] = sequence.scene_class
    write_json(path, content)


def _item(number: int, person: Person) -> dict[str, Any]:
    item: dict[str, Any] = {
        'id': person.track_id,
        'number': number,
        'category': 'person' if person.is_person else 'other',
        'position': dict(zip('xyz', person.center_m)),
        'boundingbox': dict(zip('xyz', person.size_m)),
        'rotation': person.yaw_rad,
        'occlusion': person.occlusion,
    }
    if person.score is not None:
        item['score'] = person.score
    return item


def _image_entry(image: Image) -> dict[str, Any]:
    items = []
    for person in image.people:
        item: dict[str, Any] = {
            'id': person.track_id,
            'occlusion': person.occlusion,
            'points': [dict(zip('xy', corner)) for corner in person.corners_px],
        }
        if person.box_px is not None:
            item['boundingbox'] = dict(zip('xy', person.box_px[:2]))
            item['dimension'] = dict(zip('xy', person.box_px[2:]))
        items.append(item)
    return {'image_name': image.path, 'class': image.side, 'items': items}


def read_split(path: str | Path) -> dict[str, list[str]]:
    """Returns split -> names of its sequences, in the order of the file: train, val and, where it is there, test.

    Raises:
        InputError: not a JSON of lists of sequences, no split, or a sequence that is in two places.
    """
    content = read_json(path, "it holds {'train': [1, 2, ..], 'val': [..], 'test': [..]}, numbers of sequences")
    if not isinstance(content, dict) or not any(split in content for split in SPLITS):
        raise InputError(f"{path} has none of {', '.join(SPLITS)}: expected {{'train': [1, 2, ..], 'val': [..]}}")
    splits: dict[str, list[str]] = {}
    place_of: dict[str, str] = {}
    for split in SPLITS:
        if split not in content:
            continue
        if not isinstance(content[split], list):
            raise InputError(f'{path}: {split} is {content[split]!r}, expected a list of sequences')
        splits[split] = [str(name) for name in content[split]]
        for name in splits[split]:
            if not re.fullmatch(r'[\w-]+', name):
                raise InputError(f'{path}: {split} has {name!r}, expected the number of a sequence')
            if place_of.setdefault(name, split) != split or splits[split].count(name) > 1:
                raise InputError(f'{path}: sequence {name} is in {place_of[name]} and again in {split}: keep one')
    return splits


def write_split(path: str | Path, splits: dict[str, list[str]]) -> None:
    """Writes a split file; names that are numbers are written as numbers, as in the release."""
    write_json(
        path,
        {split: [int(name) if name.isdecimal() else name for name in names] for split, names in splits.items()},
        indent=1,
    )


def read_camera(path: str | Path) -> Camera:
    """Returns the left camera from `camera.json`: `p` (3, 4) intrinsics, `r` (4, 4), `t` (4, 4) camera from LiDAR.

    A pixel is p @ r @ t @ (x, y, z, 1) divided by its depth; `r` is the identity in the release and is kept in
    `cam_from_lidar`.

    Raises:
        InputError: a matrix is missing or of another shape, or has NaN.
    """
    content = read_json(path, 'it holds the matrices p, r and t of the left camera')
    matrices = []
    for key, shape in (('p', (3, 4)), ('r', (4, 4)), ('t', (4, 4))):
        try:
            matrix = np.array(content[key], np.float64)
        except (TypeError, KeyError, ValueError):
            raise InputError(f'{path} has no matrix {key!r}: expected {shape[0]} x {shape[1]} numbers') from None
        if matrix.shape != shape or not np.isfinite(matrix).all():
            raise InputError(f'{path}: {key} has the shape {matrix.shape}, expected {shape} finite numbers')
        matrices.append(matrix)
    projection, rectify, extrinsic = matrices
    img_from_cam = np.eye(4)
    img_from_cam[:3] = projection
    return Camera(img_from_cam, rectify @ extrinsic)


def write_camera(path: str | Path, camera: Camera) -> None:
    """Writes `camera.json`, with an identity for `r`."""
    matrices = {'p': camera.img_from_cam[:3], 'r': np.eye(4), 't': camera.cam_from_lidar}
    write_json(path, {key: np.asarray(matrix).tolist() for key, matrix in matrices.items()}, indent=1)


def find_stored(root: Path, stored: str) -> Path | None:
    """Returns the file below `root` that a path of a JSON means, None where there is none.

    The release has paths of another machine: the converter keeps their last four parts. Three are tried after these,
    since `pcd/SEQ/NAME.bin` has three. A part that leads upwards is never followed.
    """
    parts = [part for part in Path(stored.replace('\\', '/')).parts if part not in ('/', '..')]
    for count in (4, 3):
        path = root.joinpath(*parts[-count:])
        if len(parts) >= 3 and path.is_file():
            return path
    return None
