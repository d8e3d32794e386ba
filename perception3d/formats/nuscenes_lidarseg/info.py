"""Info files of nuScenes-lidarseg: the keyframes of a nuScenes tree with their label files, after checking them.

`create_infos` writes `<root>/perception3d_infos_lidarseg_<split>.pkl` for every split of a version, next to the info
files of `create_data nuscenes`, whose keyframes, poses and sweeps they share. Paths in them are relative to the root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.datasets.frame_building import map_frames
from perception3d.files import write_pickle
from perception3d.formats.nuscenes.files import find_version, open_tables, splits
from perception3d.formats.nuscenes.info.build import LIDAR, InfoSettings, SceneInfos
from perception3d.formats.nuscenes.info.frames import group_frames, require_files
from perception3d.formats.nuscenes_lidarseg import FORMAT
from perception3d.formats.nuscenes_lidarseg.files import (
    CLASSES,
    LabelTables,
    lidarseg_encoding,
    read_label_tables,
)
from perception3d.outputs import require_name
from perception3d.structures.label_encoding import LabelEncoding
from perception3d.structures.point_labels import IGNORE

if TYPE_CHECKING:
    from nuscenes import NuScenes

INFO_FILE = 'perception3d_infos_lidarseg_{}.pkl'
_BYTES_OF_POINT = 4 * 5


def create_infos(
    root: str | Path, version: str | None = None, sweeps: int = 10, jobs: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Checks the tree and its labels, then writes the info file of every split of the version.

    Args:
        root: the nuScenes tree with nuScenes-lidarseg unpacked over it.
        version: folder of the tables; None where there is one.
        sweeps: earlier LiDAR sweeps to list, at most; the benchmark allows ten.
        jobs: processes that read the labels; None for one a core where there are many.
        progress: whether to show bars.

    Returns:
        {'splits': split -> {'path', 'frames', 'classes': {class: points, 'not labelled': points}, 'notes'}}.

    Raises:
        InputError: as of `read_label_tables` and `open_tables`; a cloud or a label file is missing, a cloud holds no
            points, a label file does not have a label for each point, or has an id that no category has; a split is
            labelled in part.
    """
    root = Path(root).resolve()
    version = find_version(root, version)
    tables = read_label_tables(root, version)
    nusc = open_tables(root, version)
    chosen = splits(nusc)
    for split in chosen:
        require_name(split, f'{root / version}: split')
    frames = _frames_of_scenes(nusc, {name for names in chosen.values() for name in names}, sweeps, tables)
    infos = {split: [info for name in names for info in frames[name]] for split, names in chosen.items()}
    for split, entries in infos.items():
        _require_whole(split, entries, tables)
    every = list({info['frame_id']: info for entries in infos.values() for info in entries}.values())
    require_files(root, _files(every))
    encoding = lidarseg_encoding(tables.category_index, tables.folder / 'category.json')
    labelled = [info for info in every if info['labelled']]
    counted = map_frames(partial(_count_labels, root, encoding), labelled, jobs, progress, 'counting labels')
    counts = {info['frame_id']: count for info, count in zip(labelled, counted)}
    return {'splits': {split: _write_split(root, version, split, infos[split], tables, counts) for split in infos}}


def _frames_of_scenes(
    nusc: NuScenes, names: set[str], sweeps: int, tables: LabelTables
) -> dict[str, list[dict[str, Any]]]:
    """Returns scene -> infos of its keyframes, in order of time."""
    settings = InfoSettings(offsets_s=(), sweeps=sweeps, sensors=('lidar',), classes=())
    grouped = group_frames(nusc)
    found = {}
    for scene in nusc.scene:
        if scene['name'] in names:
            # Without the cameras, of which nothing is used.
            every = grouped.get(scene['token'], {})
            builder = SceneInfos(nusc, scene, {LIDAR: every[LIDAR]} if LIDAR in every else {}, settings)
            rows = zip(builder.samples(), builder.build())
            found[scene['name']] = [_info(sample['data'][LIDAR], info, tables) for sample, info in rows]
    return found


def _info(token: str, info: dict[str, Any], tables: LabelTables) -> dict[str, Any]:
    """Turns an info of nuScenes into one of this format; `token` is that of the LiDAR's keyframe."""
    sample_token = info.pop('token')
    for key in ('images', 'history', 'instances'):
        del info[key]
    info.update(frame_id=token, sample_token=sample_token, labelled=token in tables.lidarseg, instances=[])
    if token in tables.lidarseg:
        info['pts_semantic_mask_path'] = tables.lidarseg[token]
    if token in tables.panoptic:
        info['pts_instance_mask_path'] = tables.panoptic[token]
    return info


def _require_whole(split: str, infos: Sequence[dict[str, Any]], tables: LabelTables) -> None:
    """Raises InputError where some keyframes of a split are labelled and others are not."""
    without = [info['frame_id'] for info in infos if not info['labelled']]
    if without and len(without) < len(infos):
        raise InputError(
            f'{tables.folder / "lidarseg.json"} has no labels of {len(without)} of {len(infos)} keyframes of {split}, '
            f'such as {without[0]}: unpack nuScenes-lidarseg completely, or leave their scenes out of splits.json'
        )


def _files(infos: Sequence[dict[str, Any]]) -> set[str]:
    """Returns the paths, relative to the root, of every file that the infos name."""
    found: set[str] = set()
    for info in infos:
        found |= {cloud['lidar_points']['lidar_path'] for cloud in (info, *info['lidar_sweeps'])}
        found |= {info[key] for key in ('pts_semantic_mask_path', 'pts_instance_mask_path') if key in info}
    return found


def _count_labels(root: Path, encoding: LabelEncoding, info: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """Returns (17,) the points of each class and those ignored, of a frame whose label file is checked by it."""
    cloud, path = root / info['lidar_points']['lidar_path'], root / info['pts_semantic_mask_path']
    size = cloud.stat().st_size
    if size % _BYTES_OF_POINT:
        raise InputError(
            f'{cloud} is truncated: {size} bytes is not a multiple of {_BYTES_OF_POINT} (5 floats a point)'
        )
    if not size:
        raise InputError(f'{cloud} holds no points: copy the file again')
    labels = encoding.labels(encoding.read(path, size // _BYTES_OF_POINT), path)
    return np.bincount(np.where(labels == IGNORE, len(CLASSES), labels), minlength=len(CLASSES) + 1)


def _write_split(
    root: Path,
    version: str,
    split: str,
    infos: list[dict[str, Any]],
    tables: LabelTables,
    counts: Mapping[str, npt.NDArray[np.int64]],
) -> dict[str, Any]:
    """Writes the info file of a split; returns what `create_infos` reports of it."""
    metainfo = {
        'categories': {name: label for label, name in enumerate(CLASSES)},
        'category_index': tables.category_index,
        'dataset': FORMAT.name,
        'version': version,
        'split': split,
        'info_version': '1.1',
    }
    path = root / INFO_FILE.format(split)
    # Splits may share scenes, so an info belongs to several.
    data_list = [{**info, 'sample_idx': index} for index, info in enumerate(infos)]
    write_pickle(path, {'metainfo': metainfo, 'data_list': data_list})
    labelled = [info['frame_id'] for info in infos if info['labelled']]
    total = sum((counts[token] for token in labelled), np.zeros(len(CLASSES) + 1, np.int64))
    classes = dict(zip((*CLASSES, 'not labelled'), total.tolist()))
    notes = [] if labelled else [f'{tables.folder} has no labels of it: it can be predicted, not scored']
    return {'path': path, 'frames': len(infos), 'classes': classes, 'notes': notes}
