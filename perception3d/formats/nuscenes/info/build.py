"""Info files of a nuScenes tree: mmdet3d's layout (info_version 1.1) plus the history frames that Fast-BEV needs.

`create_infos` writes `<root>/perception3d_infos_<split>.pkl` for every split of a version. Paths in them are relative
to the root. Differences from the released Fast-BEV infos, on purpose: history cameras are matched by name (the released
converter swaps the two rear side cameras), never come from the future, and carry their own ego pose; velocities that
nuScenes does not know stay NaN.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.datasets.camera_frames import order_cameras
from perception3d.files import read_json, read_pickle, write_json, write_pickle
from perception3d.formats.nuscenes.files import CLASSES, TABLES, open_tables, splits
from perception3d.formats.nuscenes.info.categories import class_of_categories, dropped_categories
from perception3d.formats.nuscenes.info.frames import Track, group_frames, make_track, require_files
from perception3d.geometry.camera import chain, rotation_matrix, transform
from perception3d.outputs import require_name, safe_name

if TYPE_CHECKING:
    from nuscenes import NuScenes

LIDAR = 'LIDAR_TOP'
FORMAT = 1  # raise it when the content of the infos changes, so that half-done work of an older version is not used


@dataclass(frozen=True)
class InfoSettings:
    """What goes into an info file.

    offsets_s: history frames relative to the current one, in seconds, all negative, in the order of the frames.
    sweeps: LiDAR sweeps before the keyframe to list, at most. sensors: 'camera', 'lidar' or both; the files of a sensor
    that is left out are not asked for. classes: names by label. category_map: pairs of a category and its class; other
    categories have the class of the nuScenes benchmark, and those without a class are left out.
    """

    offsets_s: tuple[float, ...] = (-0.5, -1.0, -1.5)
    sweeps: int = 10
    sensors: tuple[str, ...] = ('camera', 'lidar')
    classes: tuple[str, ...] = CLASSES
    category_map: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        future = [offset for offset in self.offsets_s if offset >= 0]
        if future:
            raise InputError(
                f'history offsets must be negative seconds, got {future}: a detector cannot see the future'
            )
        unknown = set(self.sensors) - {'camera', 'lidar'}
        if unknown or not self.sensors:
            raise InputError(f'sensors must be camera, lidar or both, got {list(self.sensors)}')


class SceneInfos:
    """Builds the infos of one scene. Its poses are computed at once, so that a sample is a few look-ups."""

    def __init__(
        self, nusc: NuScenes, scene: dict[str, Any], frames: dict[str, list[dict[str, Any]]], settings: InfoSettings
    ) -> None:
        self.nusc = nusc
        self.scene = scene
        self.settings = settings
        self.mapping = class_of_categories(nusc, settings)
        channels = [c for c, rows in frames.items() if c == LIDAR or rows[0]['sensor_modality'] == 'camera']
        self.tracks = {channel: make_track(nusc, frames[channel]) for channel in channels}
        if LIDAR not in self.tracks:
            raise InputError(f'scene {scene["name"]} has no {LIDAR} frames, whose frame the boxes are given in')
        self._shared: dict[tuple[Any, ...], list[Any]] = {}

    def samples(self) -> Iterator[dict[str, Any]]:
        """Gives the rows of the table `sample` in order of time."""
        token = self.scene['first_sample_token']
        while token:
            sample = self.nusc.get('sample', token)
            yield sample
            token = sample['next']

    def build(self) -> list[dict[str, Any]]:
        """Returns one info a sample, in order of time; `sample_idx` is set later."""
        return [self._info(sample) for sample in self.samples()]

    def files(self) -> set[str]:
        """Returns the paths, relative to the root, of every file that the infos name."""
        paths: set[str] = set()
        for sample in self.samples():
            for channel, track in self._keyframe_tracks(sample):
                current = track.row[sample['data'][channel]]
                rows: Sequence[int]
                if channel != LIDAR and 'camera' in self.settings.sensors:
                    rows = [current, *(track.nearest(current, offset) for offset in self.settings.offsets_s)]
                elif channel == LIDAR and 'lidar' in self.settings.sensors:
                    rows = range(max(0, current - self.settings.sweeps), current + 1)
                else:
                    rows = []
                paths.update(track.records[row]['filename'] for row in rows)
        return paths

    def _keyframe_tracks(self, sample: dict[str, Any]) -> list[tuple[str, Track]]:
        """Returns (channel, track) of the sensors that have a keyframe in this sample: LiDAR first, then cameras."""
        if LIDAR not in sample['data']:
            raise InputError(f'sample {sample["token"]} has no {LIDAR} keyframe, whose frame the boxes are given in')
        cameras = order_cameras(c for c in sample['data'] if c in self.tracks and c != LIDAR)
        return [(channel, self.tracks[channel]) for channel in (LIDAR, *cameras)]

    def _share(self, name: str, track: Track, row: int, matrix: npt.NDArray[Any]) -> list[Any]:
        """Returns a matrix as nested lists, the same object for the same frame: the pickle then holds it once."""
        record = track.records[row]
        key = (name, record['token' if name == 'ego2global' else 'calibrated_sensor_token'])
        if key not in self._shared:
            self._shared[key] = np.asarray(matrix).tolist()
        return self._shared[key]

    def _info(self, sample: dict[str, Any]) -> dict[str, Any]:
        (_, lidar), *cameras = self._keyframe_tracks(sample)
        current = lidar.row[sample['data'][LIDAR]]
        global_from_lidar = lidar.global_from_sensor[current]
        rows = {channel: track.row[sample['data'][channel]] for channel, track in cameras}
        past = [
            {
                'offset_s': offset,
                'images': {
                    channel: self._image(track, track.nearest(rows[channel], offset), global_from_lidar)
                    for channel, track in cameras
                },
            }
            for offset in self.settings.offsets_s
        ]
        return {
            'token': sample['token'],
            'scene_token': sample['scene_token'],
            'scene_name': self.scene['name'],
            'timestamp': sample['timestamp'] / 1e6,
            'ego2global': self._share('ego2global', lidar, current, lidar.global_from_ego[current]),
            'lidar_points': {
                'num_pts_feats': 5,
                'lidar_path': lidar.records[current]['filename'],
                'lidar2ego': self._share('lidar2ego', lidar, current, lidar.ego_from_sensor[current]),
            },
            'images': {channel: self._image(track, rows[channel], global_from_lidar) for channel, track in cameras},
            'lidar_sweeps': self._sweeps(lidar, current),
            'instances': instances(
                self.nusc, sample, lidar.sensor_from_global[current], self.mapping, self.settings.classes
            ),
            'history': past,
        }

    def _image(self, track: Track, row: int, global_from_lidar: npt.NDArray[Any]) -> dict[str, Any]:
        """Describes one camera frame; lidar2cam starts at the CURRENT keyframe's LiDAR, through both ego poses."""
        record = track.records[row]
        return {
            'img_path': record['filename'],
            'cam2img': self._share('cam2img', track, row, track.sensors[row]['camera_intrinsic']),
            'cam2ego': self._share('cam2ego', track, row, track.ego_from_sensor[row]),
            'ego2global': self._share('ego2global', track, row, track.global_from_ego[row]),
            'lidar2cam': chain(track.sensor_from_global[row], global_from_lidar).tolist(),
            'sample_data_token': record['token'],
            'timestamp': record['timestamp'] / 1e6,
            'width': record['width'],
            'height': record['height'],
        }

    def _sweeps(self, lidar: Track, current: int) -> list[dict[str, Any]]:
        """Lists the sweeps before the keyframe, newest first; lidar2sensor takes keyframe points to the sweep."""
        if 'lidar' not in self.settings.sensors:
            return []
        rows = range(current - 1, max(-1, current - 1 - self.settings.sweeps), -1)
        sensor_from_lidar = chain(lidar.sensor_from_global[list(rows)], lidar.global_from_sensor[current])
        return [
            {
                'timestamp': lidar.records[row]['timestamp'] / 1e6,
                'sample_data_token': lidar.records[row]['token'],
                'ego2global': self._share('ego2global', lidar, row, lidar.global_from_ego[row]),
                'lidar_points': {
                    'lidar_path': lidar.records[row]['filename'],
                    'lidar2ego': self._share('lidar2ego', lidar, row, lidar.ego_from_sensor[row]),
                    'lidar2sensor': sensor_from_lidar[i].tolist(),
                },
            }
            for i, row in enumerate(rows)
        ]


def instances(
    nusc: NuScenes,
    sample: dict[str, Any],
    lidar_from_global: npt.NDArray[Any],
    mapping: dict[str, str],
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """Returns the annotations of the categories in `mapping` (category -> class) in the LiDAR frame.

    bbox_3d is (x, y, z of the centre, l, w, h, yaw) in metres and radians; velocity (vx, vy) in m/s, the devkit's
    estimate rotated into the LiDAR frame, NaN where the devkit has no estimate.
    """
    named = ((nusc.get('sample_annotation', token), token) for token in sample['anns'])
    kept = [(a, mapping.get(a['category_name']), token) for a, token in named]
    kept = [entry for entry in kept if entry[1] is not None]
    if not kept:
        return []
    annotations = [annotation for annotation, _, _ in kept]
    centres = transform(np.array([a['translation'] for a in annotations], np.float64), lidar_from_global)
    rotated = chain(lidar_from_global[:3, :3], rotation_matrix(np.array([a['rotation'] for a in annotations])))
    yaw = np.arctan2(rotated[:, 1, 0], rotated[:, 0, 0])
    # The devkit's velocities are used in the plane only, so their vertical part is dropped before the rotation.
    flat = np.array([nusc.box_velocity(a['token']) for a in annotations]) * [1, 1, 0]
    velocities = (flat @ lidar_from_global[:3, :3].T)[:, :2]
    attribute = {row['token']: row['name'] for row in nusc.attribute}
    found = []
    for i, (a, name, token) in enumerate(kept):
        width, length, height = a['size']
        attributes = a['attribute_tokens']
        found.append(
            {
                'bbox_3d': [*centres[i].tolist(), length, width, height, float(yaw[i])],
                'bbox_label': classes.index(name),
                'bbox_label_3d': classes.index(name),
                'bbox_3d_isvalid': a['num_lidar_pts'] + a['num_radar_pts'] > 0,
                'velocity': velocities[i].tolist(),
                'num_lidar_pts': a['num_lidar_pts'],
                'num_radar_pts': a['num_radar_pts'],
                'attr_token': attributes[0] if attributes else '',
                'attr_name': attribute.get(attributes[0], '') if attributes else '',
                'instance_token': a['instance_token'],
                'annotation_token': token,
            }
        )
    return found


def create_infos(
    root: str | Path,
    version: str | None = None,
    settings: InfoSettings | None = None,
    progress: bool = True,
    trainval: bool = False,
) -> dict[str, dict[str, Any]]:
    """Checks the tree, then writes `<root>/perception3d_infos_<split>.pkl` for every split of the version.

    Finished scenes are kept in a hidden folder until the end, so that a second call continues after an interruption.
    Returns split -> {'path', 'samples', 'scenes', 'classes': {name: count}, 'notes'}; notes say how many boxes are left
    out, and why. With `trainval`, a split named train (or ..._train) and one named val (or ..._val) are also written as
    one, trainval (or ..._trainval). Raises InputError as `open_tables` and `class_of_categories` do, and for missing
    sensor files.
    """
    from tqdm import tqdm

    settings = settings or InfoSettings()
    root = Path(root).resolve()
    nusc = open_tables(root, version)
    chosen = splits(nusc)
    if trainval:
        chosen.update(_joined_splits(chosen))
    mapping = class_of_categories(nusc, settings)
    for split in chosen:
        require_name(split, f'{root / nusc.version}: split')
    wanted = {name for scenes in chosen.values() for name in scenes}
    scenes = [scene for scene in nusc.scene if scene['name'] in wanted]
    frames = group_frames(nusc)
    builders = {s['name']: SceneInfos(nusc, s, frames.get(s['token'], {}), settings) for s in scenes}
    hidden = not progress
    checks = tqdm(builders.values(), desc='checking files', unit='scene', disable=hidden)
    require_files(root, set().union(*(builder.files() for builder in checks)))

    partial = _partial_folder(root, nusc.version, settings)
    # By its number in the table, since a name may hold anything.
    files = {scene['name']: partial / f'{number:06d}.pkl' for number, scene in enumerate(nusc.scene)}
    for name in tqdm(list(builders), desc='building infos', unit='scene', disable=hidden):
        builder = builders.pop(name)
        if not files[name].is_file():
            write_pickle(files[name], builder.build())
    summary = {
        split: _write_split(root, nusc.version, split, [files[name] for name in names], settings, mapping)
        for split, names in chosen.items()
    }
    for split, names in chosen.items():
        summary[split]['notes'] += dropped_categories(nusc, names, mapping)
    shutil.rmtree(partial)
    return summary


def _joined_splits(chosen: dict[str, list[str]]) -> dict[str, list[str]]:
    """Returns trainval, or ..._trainval, for the splits of which both parts are there."""
    joined = {}
    for split in chosen:
        other = f'{split.removesuffix("train")}val'
        if split.split('_')[-1] == 'train' and other in chosen:
            joined[f'{split}val'] = list(dict.fromkeys([*chosen[split], *chosen[other]]))
    if not joined:
        raise InputError(f'--trainval joins the splits train and val, but there are only {", ".join(chosen)}')
    return joined


def _partial_folder(root: Path, version: str, settings: InfoSettings) -> Path:
    """Returns the folder of finished scenes, emptied if they were made with other settings or other tables."""
    state = [[name, (root / version / f'{name}.json').stat().st_mtime_ns] for name in TABLES]
    mark = hashlib.sha1(json.dumps([FORMAT, asdict(settings), state]).encode()).hexdigest()
    folder = root / f'.perception3d_infos_{safe_name(version)}.partial'
    stamp = folder / 'settings.json'
    if folder.is_dir() and not (stamp.is_file() and read_json(stamp) == mark):
        shutil.rmtree(folder)
    write_json(stamp, mark)
    return folder


def _write_split(
    root: Path, version: str, split: str, scenes: Sequence[Path], settings: InfoSettings, mapping: dict[str, str]
) -> dict[str, Any]:
    """Joins the finished scenes of a split into its info file; returns what `create_infos` reports of it."""
    data_list = [info for scene in scenes for info in read_pickle(scene)]
    for index, info in enumerate(data_list):
        info['sample_idx'] = index
    metainfo = {
        'categories': {name: label for label, name in enumerate(settings.classes)},
        'dataset': 'nuscenes',
        'version': version,
        'split': split,
        'info_version': '1.1',
    }
    if settings.classes != CLASSES or settings.category_map:
        # The evaluation reads its truth by it; without, by the benchmark's.
        metainfo['category_map'] = mapping
    path = root / f'perception3d_infos_{split}.pkl'
    write_pickle(path, {'metainfo': metainfo, 'data_list': data_list})
    counts = Counter(settings.classes[box['bbox_label_3d']] for info in data_list for box in info['instances'])
    classes = {name: counts[name] for name in settings.classes}
    notes = _notes_on_points(data_list)
    return {'path': path, 'samples': len(data_list), 'scenes': len(scenes), 'classes': classes, 'notes': notes}


def _notes_on_points(data_list: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a line for the boxes that training, and one for those that the evaluation leaves out."""
    boxes = [box for info in data_list for box in info['instances']]
    lines = []
    for who, reason, count in (
        ('training', 'LiDAR point (num_lidar_pts is 0)', sum(box['num_lidar_pts'] <= 0 for box in boxes)),
        ('the evaluation', 'LiDAR or radar point', sum(not box['bbox_3d_isvalid'] for box in boxes)),
    ):
        if count:
            lines.append(f'{count} of {len(boxes)} boxes have no {reason}: {who} leaves them out')
    return lines
