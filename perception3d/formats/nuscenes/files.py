"""Opens a nuScenes tree with nuscenes-devkit after checking it: versions, tables, splits.

Info files and the official metric both start here. The format is that of nuScenes v1.0 (https://www.nuscenes.org):
`<root>/<version>/*.json`, `<root>/samples`, `<root>/sweeps`, `<root>/maps`, and for splits of one's own
`<root>/<version>/splits.json`, a dict from split name to scene names.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from perception3d.checks import InputError, require_folder, unknown_name
from perception3d.files import read_json

if TYPE_CHECKING:
    from nuscenes import NuScenes

TABLES = (
    'attribute', 'calibrated_sensor', 'category', 'ego_pose', 'instance', 'log', 'map', 'sample', 'sample_annotation',
    'sample_data', 'scene', 'sensor', 'visibility',
)  # fmt: skip
CLASSES = (
    'car', 'truck', 'trailer', 'bus', 'construction_vehicle',
    'bicycle', 'motorcycle', 'pedestrian', 'traffic_cone', 'barrier',
)  # fmt: skip
"""The classes of the detection benchmark, in the order of the labels of info files."""
VEHICLES = CLASSES[:5]
OFFICIAL_SPLITS = {'v1.0-mini': ('mini_train', 'mini_val'), 'v1.0-trainval': ('train', 'val'), 'v1.0-test': ('test',)}
_TREE_HINT = 'see data/README.md for the expected tree'


def find_version(root: str | Path, version: str | None = None) -> str:
    """Returns `version` if its tables are there, or the only version of the tree if None.

    InputError when the root or the version is missing, or when there are several and none was chosen.
    """
    root = require_folder(root, _TREE_HINT)
    found = sorted(table.parent.name for table in root.glob('*/sample.json'))
    if version is not None:
        if not (root / version).is_dir():
            raise unknown_name(f'version (a folder in {root})', version, found)
        return version
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f'{root} holds no nuScenes tables (no <version>/sample.json): {_TREE_HINT}')
    raise InputError(f'{root} holds several versions ({", ".join(found)}): choose one with --version')


def check_tables(root: str | Path, version: str) -> None:
    """Raises InputError that names the tables, or the map pictures, which the devkit needs and which are missing."""
    from perception3d.formats.nuscenes.tables import read_table

    root = Path(root)
    missing = [f'{name}.json' for name in TABLES if not (root / version / f'{name}.json').is_file()]
    if missing:
        some = ', '.join(missing[:3]) + (', ...' if len(missing) > 3 else '')
        raise InputError(f'{root / version} lacks {len(missing)} of {len(TABLES)} tables ({some}): unpack the metadata')
    for record in read_table(root / version, 'map'):
        if not (root / record['filename']).is_file():
            raise InputError(f'{root / record["filename"]} (named in map.json) does not exist: unpack the maps')
    for name in ('lidarseg', 'panoptic'):
        if (root / version / f'{name}.json').is_file():
            _check_label_files(root, version, name)


def _check_label_files(root: Path, version: str, name: str) -> None:
    """Raises InputError for what the devkit asserts where there is a table of point labels."""
    from perception3d.formats.nuscenes.tables import read_table

    table = root / version / f'{name}.json'
    if any('index' not in row for row in read_table(root / version, 'category')):
        raise InputError(
            f'{root / version / "category.json"} has categories without index, which {table} needs: unpack the '
            f'category.json of nuScenes-{name}'
        )
    named = len(read_table(root / version, name))
    hint = f'{table} names {named} label files in it: ' + ('unpack them' if named else 'make it, empty')
    folder = require_folder(root / name / version, hint)
    there = sum(path.endswith(('.bin', '.npz')) for path in os.listdir(folder))
    if there != named:
        raise InputError(
            f'{folder} holds {there} label files, but {table} names {named}: unpack the archive completely'
        )


def open_tables(root: str | Path, version: str | None = None) -> NuScenes:
    """Returns the devkit's NuScenes of a checked tree; the same tables are read from disk once per process.

    InputError names a missing root, version, table or map, or a table that does not parse.
    """
    root = Path(root).resolve()
    version = find_version(root, version)
    check_tables(root, version)
    state = tuple((root / version / f'{name}.json').stat().st_mtime_ns for name in TABLES)
    return _open(str(root), version, state)


@lru_cache(maxsize=2)
def _open(root: str, version: str, state: tuple[int, ...]) -> NuScenes:
    """Loads the tables; `state` (their times of change) invalidates the cache when a tree is written again."""
    from perception3d.formats.nuscenes.tables import CheckedNuScenes

    nusc = CheckedNuScenes(version, root, verbose=False)
    # In a part of a larger set, prev or next may name an annotation that is not there; the devkit would stop at it.
    known = {annotation['token'] for annotation in nusc.sample_annotation}
    for annotation in nusc.sample_annotation:
        for side in ('prev', 'next'):
            if annotation[side] not in known:
                annotation[side] = ''
    return nusc


def splits(nusc: NuScenes) -> dict[str, list[str]]:
    """Returns the scene names of every split of the opened version: the official ones and those of splits.json.

    Of official splits only scenes that are in the tables count; a split without any is left out. InputError when there
    is no split at all, two scenes have one name, or splits.json names a scene twice or one that is not in the tables.
    """
    from nuscenes.utils.splits import create_splits_scenes

    official = create_splits_scenes()
    named = {name: official[name] for name in OFFICIAL_SPLITS.get(nusc.version, ())}
    own: dict[str, list[str]] = {}
    own_file = Path(nusc.dataroot) / nusc.version / 'splits.json'
    if own_file.is_file():
        own = read_json(own_file)
        _check_splits(own_file, own)
        named.update(own)
    elif not named:
        raise InputError(
            f'{nusc.version} is not an official version and has no {own_file}: write one, {{split: [scenes]}}'
        )
    names = [scene['name'] for scene in nusc.scene]
    present = set(names)
    if len(present) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        table = Path(nusc.dataroot) / nusc.version / 'scene.json'
        raise InputError(f'{table}: two scenes are called {twice!r}, so a split cannot name one of them: rename one')
    for name in own:
        unknown = [scene for scene in own[name] if scene not in present]
        if unknown:
            raise InputError(f'{own_file}: split {name!r}: {unknown_name("scene", unknown[0], present)}')
    found = {name: [scene for scene in scenes if scene in present] for name, scenes in named.items()}
    found = {name: scenes for name, scenes in found.items() if scenes}
    if not found:
        raise InputError(f'no scene of {nusc.version} belongs to one of its splits ({", ".join(named)})')
    return found


def _check_splits(path: Path, content: object) -> None:
    if not isinstance(content, dict) or not all(isinstance(scenes, list) for scenes in content.values()):
        raise InputError(f'{path} must be a dict from split name to a list of scene names')
    for name, scenes in content.items():
        for number, scene in enumerate(scenes):
            if not isinstance(scene, str):
                raise InputError(f'{path}: split {name!r} names the scene {scene!r}: names are texts')
            if scene in scenes[:number]:
                raise InputError(f'{path}: split {name!r} names the scene {scene!r} twice: remove one')


def samples_of_split(nusc: NuScenes, split: str) -> list[str]:
    """Returns the sample tokens of a split in the order of the sample table; InputError for an unknown split."""
    known = splits(nusc)
    if split not in known:
        raise unknown_name(f'split of {nusc.version}', split, known)
    scenes = {scene['token'] for scene in nusc.scene if scene['name'] in set(known[split])}
    return [sample['token'] for sample in nusc.sample if sample['scene_token'] in scenes]
