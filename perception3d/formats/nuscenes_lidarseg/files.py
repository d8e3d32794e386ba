"""Files of nuScenes-lidarseg and Panoptic nuScenes: their tables, label files, result files, and classes by name.

Layout, in addition to that of nuScenes: `<version>/lidarseg.json` and a `category.json` whose rows have an `index`;
`lidarseg/<version>/<token>_lidarseg.bin`, one uint8 a point, the index of its category; and of Panoptic nuScenes
`<version>/panoptic.json` and `panoptic/<version>/<token>_panoptic.npz`, whose array `data` has 1000 * index + instance.
The token is that of the LiDAR's row in sample_data. Result files have the same form, with the 16 ids of the benchmark.
Source: nuscenes-devkit 1.2.0, eval/lidarseg and eval/panoptic.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, require_file, unknown_name
from perception3d.files import read_json, write_bytes
from perception3d.formats.nuscenes.files import find_version
from perception3d.structures.label_encoding import LabelEncoding, require_count
from perception3d.structures.point_labels import IGNORE

CLASSES = (
    'barrier', 'bicycle', 'bus', 'car', 'construction_vehicle', 'motorcycle', 'pedestrian', 'traffic_cone', 'trailer',
    'truck', 'driveable_surface', 'other_flat', 'sidewalk', 'terrain', 'manmade', 'vegetation',
)  # fmt: skip
"""The classes of the benchmark. A class has the id 1 to 16 in result files, and the label 0 to 15 in this package."""

THINGS, STUFF = CLASSES[:10], CLASSES[10:]
"""The classes whose objects are told apart, and the others."""
CLASS_OF_CATEGORY = {
    'noise': None,
    'animal': None,
    'human.pedestrian.adult': 'pedestrian',
    'human.pedestrian.child': 'pedestrian',
    'human.pedestrian.construction_worker': 'pedestrian',
    'human.pedestrian.personal_mobility': None,
    'human.pedestrian.police_officer': 'pedestrian',
    'human.pedestrian.stroller': None,
    'human.pedestrian.wheelchair': None,
    'movable_object.barrier': 'barrier',
    'movable_object.debris': None,
    'movable_object.pushable_pullable': None,
    'movable_object.trafficcone': 'traffic_cone',
    'static_object.bicycle_rack': None,
    'vehicle.bicycle': 'bicycle',
    'vehicle.bus.bendy': 'bus',
    'vehicle.bus.rigid': 'bus',
    'vehicle.car': 'car',
    'vehicle.construction': 'construction_vehicle',
    'vehicle.emergency.ambulance': None,
    'vehicle.emergency.police': None,
    'vehicle.motorcycle': 'motorcycle',
    'vehicle.trailer': 'trailer',
    'vehicle.truck': 'truck',
    'flat.driveable_surface': 'driveable_surface',
    'flat.other': 'other_flat',
    'flat.sidewalk': 'sidewalk',
    'flat.terrain': 'terrain',
    'static.manmade': 'manmade',
    'static.other': None,
    'static.vegetation': 'vegetation',
    'vehicle.ego': None,
}
"""Category -> class, None for those that are not scored, in the order of the released category.json. Files are read by
its `index` and these names, never by number: docs/instructions_lidarseg.md of the devkit numbers 25 to 30 otherwise."""
_OBJECTS_OF_CATEGORY = 1000
_LIDARSEG_HINT = 'unpack nuScenes-lidarseg over the nuScenes tree, see data/README.md'


@dataclass(frozen=True)
class LabelTables:
    """What the tables of a version say of label files.

    Attributes:
        folder: that of the tables.
        category_index: category -> its id in label files.
        lidarseg, panoptic: token of the LiDAR's keyframe -> label file, relative to the root; empty without such.
    """

    folder: Path
    category_index: dict[str, int]
    lidarseg: dict[str, str]
    panoptic: dict[str, str]


def read_label_tables(root: str | Path, version: str | None = None) -> LabelTables:
    """Reads category.json, lidarseg.json and, where it is there, panoptic.json.

    Only a version that ends in `test` may be without lidarseg.json: its labels are not public.

    Raises:
        InputError: a table is missing or has other rows; a category has no index, one that another has, or a name that
            nuScenes-lidarseg does not know; there is no version, or several.
    """
    folder = Path(root) / find_version(root, version)
    path = folder / 'category.json'
    rows = _rows(path, ('name',))
    if any('index' not in row for row in rows):
        raise InputError(
            f'{path} has categories without index: it is that of nuScenes without lidarseg, {_LIDARSEG_HINT}; it '
            'replaces category.json'
        )
    category_index = {row['name']: row['index'] for row in rows}
    lidarseg_encoding(category_index, path)
    has_labels = (folder / 'lidarseg.json').is_file()
    if not has_labels and not folder.name.endswith('test'):
        raise InputError(f'{folder / "lidarseg.json"} does not exist: {_LIDARSEG_HINT}')
    files = {
        name: {row['token']: row['filename'] for row in _rows(folder / f'{name}.json', ('token', 'filename'))}
        for name in ('lidarseg', 'panoptic')
        if (folder / f'{name}.json').is_file()
    }
    return LabelTables(folder, category_index, files.get('lidarseg', {}), files.get('panoptic', {}))


def _rows(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    rows = read_json(path, _LIDARSEG_HINT)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= set(keys) for row in rows):
        raise InputError(f'{path} is not a list of rows with {", ".join(keys)}: {_LIDARSEG_HINT}')
    return rows


def lidarseg_encoding(
    category_index: Mapping[str, int], source: str | Path, classes: Sequence[str] = CLASSES, panoptic: bool = False
) -> LabelEncoding:
    """Returns how label files are read: ids of categories, which become labels by the names of the categories.

    Args:
        category_index: category -> id, from category.json.
        source: the file that it is from, for the error.
        classes: names by label, some of the benchmark's; points of other classes are ignored.
        panoptic: for the files of Panoptic nuScenes instead, which have objects too.

    Raises:
        InputError: a category or a class of another name; an id that is no whole number below 256, or that two
            categories have.
    """
    for name in classes:
        if name not in CLASSES:
            raise unknown_name('class of nuScenes-lidarseg', name, CLASSES)
    label_of: dict[int, int] = {}
    for category, index in category_index.items():
        if category not in CLASS_OF_CATEGORY:
            raise unknown_name(f'category of nuScenes-lidarseg (in {source})', category, CLASS_OF_CATEGORY)
        if type(index) is not int or not 0 <= index < 256:
            raise InputError(f'{source}: category {category} has the index {index!r}: expected 0 to 255')
        if index in label_of:
            raise InputError(f'{source}: two categories have the index {index}, one is {category}: give each its own')
        found = CLASS_OF_CATEGORY[category]
        label_of[index] = classes.index(found) if found in classes else IGNORE
    id_of = tuple(1 + CLASSES.index(name) for name in classes)
    return (PanopticEncoding if panoptic else LabelEncoding)(tuple(classes), label_of, id_of, 'u1')


@dataclass(frozen=True)
class PanopticEncoding(LabelEncoding):
    """Label files of Panoptic nuScenes: the array `data` of an .npz file has 1000 * id + number of the object."""

    def read(self, path: str | Path, num_points: int | None = None, longer: bool = False) -> npt.NDArray[np.int64]:
        """Returns the numbers (N,) of a label file, or of a result file; `longer` is as of LabelEncoding.

        Raises:
            InputError: the file is missing or damaged, has no whole numbers `data`, or not `num_points` of them.
        """
        path = require_file(path, 'unpack Panoptic nuScenes over the nuScenes tree, see data/README.md')
        try:
            with np.load(path, allow_pickle=False) as content:
                data = content['data']
        except (ValueError, LookupError, EOFError, OSError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(
                f'{path} is not an .npz file with an array data ({error}): copy or write it again'
            ) from error
        if data.ndim != 1 or data.dtype.kind not in 'iu' or data.min(initial=0) < 0:
            raise InputError(f'{path} holds {data.dtype} of shape {data.shape}: expected (N,) whole numbers from 0 on')
        require_count(path, len(data), num_points, longer)
        numbers: npt.NDArray[np.int64] = data[:num_points].astype(np.int64)
        return numbers

    def ids(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the ids (N,) in the numbers of a file."""
        ids: npt.NDArray[Any] = stored // _OBJECTS_OF_CATEGORY
        return ids

    def objects(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Returns the whole number of each point that belongs to an object, (N,) int64, and 0 for all others."""
        objects: npt.NDArray[np.int64] = np.where(stored % _OBJECTS_OF_CATEGORY, stored, 0).astype(np.int64)
        return objects


def read_result_file(path: str | Path, num_points: int) -> npt.NDArray[np.uint8]:
    """Returns the ids (N,), 1 to 16, of a result file `_lidarseg.bin`.

    Raises:
        InputError: the file is missing, does not have `num_points` ids, or has others.
    """
    path = require_file(path, 'results must have a file for every keyframe of the split')
    ids = np.fromfile(path, np.uint8)
    require_count(path, len(ids), num_points)
    require_class_ids(ids, path)
    return ids


def require_class_ids(ids: npt.NDArray[Any], path: str | Path, lowest: int = 1) -> None:
    """Raises InputError unless all ids of a result file, `path`, are classes: `lowest` to 16."""
    wrong = (ids < lowest) | (ids > len(CLASSES))
    if wrong.any():
        raise InputError(
            f'{path} predicts {_some(ids[wrong])} for {int(wrong.sum())} of {len(ids)} points: expected ids of '
            f'classes, {lowest} to {len(CLASSES)}, for all points'
        )


def class_ids(labels: npt.NDArray[Any], source: str, classes: Sequence[str] = CLASSES) -> npt.NDArray[np.uint8]:
    """Returns the ids 1 to 16 (N,) of predicted labels, which are places in `classes`.

    Raises:
        InputError: a label of `source` is none of them, such as that of ignored points.
    """
    wrong = (labels < 0) | (labels >= len(classes))
    if wrong.any():
        raise InputError(
            f'{source}: the label {_some(labels[wrong])} is predicted for {int(wrong.sum())} of {len(labels)} points, '
            f'which is no class: expected 0 to {len(classes) - 1}; a head has no output for ignored points'
        )
    table = np.array([1 + CLASSES.index(name) for name in classes], np.uint8)
    ids: npt.NDArray[np.uint8] = table[labels]
    return ids


def write_result_file(path: str | Path, ids: npt.NDArray[np.uint8]) -> None:
    """Writes the ids (N,), 1 to 16, of a cloud's points as a `_lidarseg.bin`.

    Raises:
        InputError: there is a file at `path` that is not a result file, such as a label file: it would be lost.
    """
    path = Path(path)
    if path.is_file():
        there = np.fromfile(path, np.uint8)
        if len(there) and (there.min() < 1 or there.max() > len(CLASSES)):
            raise InputError(f'{path} is not a result file and would be lost: choose another folder')
    write_bytes(path, ids)


def _some(ids: npt.NDArray[Any]) -> str:
    names = [str(number) for number in np.unique(ids)]
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
