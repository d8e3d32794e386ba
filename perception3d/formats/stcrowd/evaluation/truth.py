"""The annotated people of STCrowd for its metric: of annotation files and clouds, or of an info file; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, require_folder
from perception3d.datasets.frame_building import INFO_FILE, map_frames
from perception3d.datasets.point_clouds import read_cloud
from perception3d.evaluation.crowd_frames import People
from perception3d.evaluation.crowd_options import CrowdOptions
from perception3d.evaluation.track_files import PREFIX
from perception3d.files import holds_frames, read_pickle
from perception3d.formats.stcrowd.files import NUM_FEATURES, Person, find_stored, read_sequence, sequence_name
from perception3d.formats.stcrowd.info import bottom_boxes
from perception3d.formats.stcrowd.rules import OTHER, SITTING_HEIGHT_M, ignore_reason
from perception3d.formats.stcrowd.yaw_sign import find_yaw_sign
from perception3d.ops.inside_boxes import rows_in_boxes

Truth = dict[int, People]
"""Number of a frame -> its people."""
_HINT = 'give the folder of annotation files, such as anno, or an info file of tools/create_data.py stcrowd'


@dataclass(frozen=True)
class Reading:
    """How annotations are read.

    Attributes:
        points: whether LiDAR points are counted in the clouds next to `anno`, where they are; an info file has the
            numbers.
        jobs: processes; None: one a core for many sequences.
        progress: whether a bar is shown.
    """

    points: bool = True
    jobs: int | None = None
    progress: bool = True


def people_of(people: Iterable[Person], points: Iterable[int | None], options: CrowdOptions) -> People:
    """Returns annotated people; reasons to be ignored are found here, but for the place: that is left to the metric."""
    own, counts = list(people), list(points)
    return People(
        np.array([person.center_m for person in own]),
        np.array([is_ignored(p.size_m, count, p.is_person, options) for p, count in zip(own, counts)], bool),
        np.array([-1 if p.occlusion is None else p.occlusion for p in own], np.int64),
        np.array([-1 if count is None else count for count in counts], np.int64),
        np.array([-1 if p.track_id is None else p.track_id for p in own], np.int64),
    )


def is_ignored(size_m: tuple[float, ...], points: int | None, is_person: bool, options: CrowdOptions) -> bool:
    """Returns whether a person is ignored wherever they stand, by size (l, w, h; metres), LiDAR points or category."""
    length, width, height = size_m
    if not options.ignore_sitting and height > 0:
        height = max(height, SITTING_HEIGHT_M)
    counted = points if options.ignore_few_points else None
    return ignore_reason((0.0, 0.0, 0.0), (length, width, height), counted, is_person) is not None


def annotation_folder(folder: Path) -> Path:
    """Returns `anno` in a folder where it is there, else the folder."""
    return folder / 'anno' if (folder / 'anno').is_dir() else folder


def sequence_files(folder: Path, hint: str) -> dict[str, Path]:
    """Returns the name of each sequence -> its file; '12' and '012' are one sequence.

    The nuScenes JSON of tracks that `test --format-only` writes into the same folder is no sequence.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.glob('*.json')):
        if path.name.startswith(PREFIX):
            continue
        other = files.setdefault(sequence_name(path.stem), path)
        if other != path:
            raise InputError(f'{folder} has sequence {path.stem} twice: {other.name} and {path.name}')
    if not files:
        raise InputError(f'{folder} holds no .json files: {hint}')
    return files


def read_truth(gt: Path, names: list[str], options: CrowdOptions, reading: Reading) -> tuple[dict[str, Truth], int]:
    """Returns the people of each frame of the sequences, and how many sequences are annotated.

    Args:
        gt: folder of `SEQUENCE.json`, or one with `anno/`; or an info file.
        names: sequences, as `sequence_name` writes them.
        options: who is ignored.
        reading: how annotations are read.

    Raises:
        InputError: a file cannot be used, or a sequence is not annotated.
    """
    truth = _read_infos(gt, options) if gt.is_file() else {}
    folder = annotation_folder(require_folder(gt, _HINT)) if not truth else gt
    files = sequence_files(folder, _HINT) if not truth else {}
    unknown = [name for name in names if name not in files and name not in truth]
    if unknown:
        raise InputError(f'there are results of sequence {", ".join(unknown[:3])}, which {gt} does not annotate')
    if truth:
        return {name: truth[name] for name in names}, len(truth)
    root = folder.parent if reading.points else None
    wanted = [files[name] for name in names]
    sign = 1 if root is None else _yaw_sign(root, wanted)
    read = partial(read_annotations, root=root, yaw_sign=sign, options=options)
    parts = map_frames(read, wanted, reading.jobs, reading.progress, 'reading annotations')
    return dict(zip(names, parts)), len(files)


def read_annotations(path: Path, root: Path | None, yaw_sign: int, options: CrowdOptions) -> Truth:
    """Returns the people of the frames of an annotation file; points are counted in the clouds below `root`, if any."""
    truth = {}
    for frame in read_sequence(path).frames:
        counts: list[int | None] = [None] * len(frame.people)
        cloud = None if root is None else find_stored(root, frame.cloud_path)
        if cloud is not None:
            rows = rows_in_boxes(read_cloud(cloud, NUM_FEATURES), bottom_boxes(frame.people, yaw_sign))
            counts = [len(own) for own in rows]
        truth[frame.frame_id] = people_of(frame.people, counts, options)
    return truth


def _yaw_sign(root: Path, files: list[Path]) -> int:
    """Returns the sign of an info file of the tree, where there is one, else that which the points tell."""
    for path in sorted(root.glob(INFO_FILE.format('*'))):
        return int(read_pickle(path)['metainfo'].get('yaw_sign', 1))
    return find_yaw_sign(_frames_that_tell(root, files))[0]


def _frames_that_tell(root: Path, files: list[Path]) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Yields points and boxes with stored yaws of every tenth frame: neighbours look alike."""
    for path in files:
        for frame in read_sequence(path).frames[::10]:
            cloud = find_stored(root, frame.cloud_path)
            if cloud is not None and frame.people:
                yield read_cloud(cloud, NUM_FEATURES), bottom_boxes(frame.people)


def _read_infos(path: Path, options: CrowdOptions) -> dict[str, Truth]:
    """Returns sequence -> number of the frame -> its people, of the labelled frames of an info file."""
    content = read_pickle(path, _HINT)
    infos = content.get('data_list') if isinstance(content, dict) else None
    if not infos or not holds_frames(infos, 'frame_id', 'scene_token', 'labelled', 'instances', 'ignored'):
        raise InputError(f'{path} is not an info file of STCrowd with frames: {_HINT}')
    truth: dict[str, Truth] = {}
    for info in infos:
        if info['labelled']:
            boxes = [*info['instances'], *info['ignored']]
            people = people_of(map(_person_of, boxes), [box['num_lidar_pts'] for box in boxes], options)
            number = int(info['frame_id'].rpartition('_')[2])
            truth.setdefault(sequence_name(info['scene_token']), {})[number] = people
    if not truth:
        raise InputError(f'{path} has no labelled frame: give the info file of another split')
    return truth


def _person_of(box: dict[str, Any]) -> Person:
    x, y, z, length, width, height, yaw = box['bbox_3d'][:7]
    return Person(
        box['track_id'] if box['track_id'] >= 0 else None,
        (x, y, z + height / 2),
        (length, width, height),
        yaw,
        box['occlusion'] if box['occlusion'] >= 0 else None,
        is_person=box.get('reason') != OTHER,
    )
