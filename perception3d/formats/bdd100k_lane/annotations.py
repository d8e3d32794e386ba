"""BDD100K's lane annotations: the JSON files of three releases, and their lines and Bezier curves as polylines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, unknown_name
from perception3d.files import read_json
from perception3d.formats.bdd100k_lane.files import CATEGORIES, DIRECTIONS, STYLES

Points = npt.NDArray[np.float64]
_CURVE_STEPS = 16
"""Straight parts that a Bezier curve becomes."""


@dataclass(frozen=True)
class Marking:
    """An annotated line: often one of the two borders of a marking.

    Attributes:
        points: (M, 2) float64, x and y in pixels of the stored image; M is 1 or more.
        category, direction, style: names of CATEGORIES, DIRECTIONS, STYLES.
    """

    points: Points
    category: str
    direction: str
    style: str


def annotation_source(root: Path, split: str) -> Path | None:
    """Returns the file, or the folder of files, that annotates a split; None where there is none.

    Of the releases that are there the newest: `labels/lane/polygons/lane_train.json` (2020),
    `labels/bdd100k_labels_images_train.json` (2018, a list of all images), `labels/100k/train/*.json` (2018, a file an
    image).
    """
    labels = root / 'labels'
    for path in (labels / f'lane/polygons/lane_{split}.json', labels / f'bdd100k_labels_images_{split}.json'):
        if path.is_file():
            return path
    folder = labels / '100k' / split
    return folder if folder.is_dir() else None


def read_markings(source: Path) -> dict[str, list[Marking]]:
    """Returns name of an image without suffix -> its markings, of a file or folder of `annotation_source`.

    Raises:
        InputError: a file is missing, or is no such file; names the image and the label.
    """
    files = sorted(source.glob('*.json')) if source.is_dir() else [source]
    if not files:
        raise InputError(f'{source} holds no .json files: unpack the labels of BDD100K completely')
    found: dict[str, list[Marking]] = {}
    for path in files:
        for frame in _frames(path):
            name = str(frame['name'])
            stem = name.removesuffix('.jpg')
            if '/' in stem or stem in found:
                fault = 'has the images twice' if stem in found else 'has a path as the name of an image'
                raise InputError(f'{path} {fault}: {name!r}; download it again')
            found[stem] = list(_markings(frame, f'{path}, {name}'))
    return found


def _frames(path: Path) -> list[Mapping[str, Any]]:
    """Returns the images of a file: a list of them, `{"frames": [..]}` of Scalabel, or a single one."""
    content = read_json(path, 'unpack the lane labels of BDD100K')
    frames = content
    if isinstance(content, dict):
        # A file of a single image has `frames` too: its moments, of which there is one.
        frames = [content] if 'name' in content else content.get('frames')
    if not isinstance(frames, list) or not all(isinstance(f, dict) and isinstance(f.get('name'), str) for f in frames):
        raise InputError(f'{path} is not a list of images with name and labels: download the labels again')
    return frames


def _markings(frame: Mapping[str, Any], place: str) -> Iterator[Marking]:
    """Yields the lines of an image; labels of other objects, and those without poly2d, are left out."""
    moments = frame.get('frames')
    if isinstance(moments, list) and moments and isinstance(moments[0], dict):
        frame = {'labels': moments[0].get('objects')}
    labels = frame.get('labels') or []
    if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
        raise InputError(f'{place}: labels is not a list of labels: download the labels again')
    for label in labels:
        attributes = label.get('attributes') or {}
        if not isinstance(attributes, dict):
            raise InputError(f'{place}, label {label.get("id")}: attributes is no table of names: download it again')
        category = str(label.get('category', '')).removeprefix('lane/')
        if category == 'lane':
            category = str(attributes.get('laneTypes', attributes.get('laneType')))
            if category not in CATEGORIES:
                raise unknown_name(f'lane type ({place}, label {label.get("id")})', category, CATEGORIES)
        if category not in CATEGORIES or not label.get('poly2d'):
            continue
        where = f'{place}, label {label.get("id")}'
        direction = _attribute(attributes, 'laneDirection', 'direction', DIRECTIONS, where)
        style = _attribute(attributes, 'laneStyle', 'style', STYLES, where)
        for vertices, types in _polylines(label['poly2d'], where):
            yield Marking(flatten(vertices, types, where), category, direction, style)


def _attribute(attributes: Mapping[str, Any], name: str, older: str, known: tuple[str, ...], where: str) -> str:
    """Returns an attribute by its name or the older one; the first of those known where it is not given."""
    value = str(attributes.get(name, attributes.get(older, known[0])))
    if value not in known:
        raise unknown_name(f'{name} ({where})', value, known)
    return value


def _polylines(poly2d: Any, where: str) -> Iterator[tuple[Points, str]]:
    """Yields vertices (M, 2) and their types, such as 'LCCC', of both layouts of poly2d."""
    fault = InputError(f'{where}: poly2d is neither a list of vertices and types nor of [x, y, "L"]: download it again')
    if not isinstance(poly2d, list):
        raise fault
    try:
        if isinstance(poly2d[0], dict):
            parts = [(poly['vertices'], str(poly['types'])) for poly in poly2d]
        else:
            parts = [([vertex[:2] for vertex in poly2d], ''.join(str(vertex[2]) for vertex in poly2d))]
        arrays = [(np.array(vertices, np.float64), types) for vertices, types in parts]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise fault from error
    for vertices, types in arrays:
        if vertices.ndim != 2 or vertices.shape[1] != 2 or len(vertices) != len(types) or not len(types):
            raise InputError(
                f'{where}: {len(types)} types for vertices of shape {vertices.shape}: expected x, y and a type, L or '
                'C, for each'
            )
        if not np.isfinite(vertices).all():
            raise InputError(f'{where}: a vertex is not finite: expected x and y in pixels')
        yield vertices, types


def flatten(vertices: Points, types: str, where: str) -> Points:
    """Returns a polyline (K, 2) through vertices; a curve becomes 16 straight parts.

    The line starts at the first vertex, whatever its type. From there 'L' is a vertex, and three vertices that begin
    with a 'C' are a cubic Bezier curve: two control points and its end, so that 'LCCC' and 'CCCL' are both a single
    curve. So BDD100K's `to_mask` draws them (by matplotlib's rule for the codes of a path).

    Args:
        vertices: (M, 2) pixels, M 1 or more.
        types: a letter for each vertex.
        where: names the label in errors.

    Raises:
        InputError: a curve lacks vertices; a letter is neither L nor C.
    """
    if set(types) - set('LC'):
        raise InputError(f'{where}: types are {types!r}: expected L (a vertex) and C (of a curve)')
    parts, place = [vertices[:1]], 1
    t = np.linspace(0, 1, _CURVE_STEPS + 1)[1:, None]
    while place < len(types):
        if types[place] == 'L':
            parts.append(vertices[place : place + 1])
            place += 1
            continue
        if place + 3 > len(types):
            raise InputError(f'{where}: types are {types!r}: a curve has two control points and an end')
        start, (first, second, end) = vertices[place - 1], vertices[place : place + 3]
        parts.append((1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t**2 * second + t**3 * end)
        place += 3
    return np.concatenate(parts)
