"""Info files of a CULane tree, and before them, where they are not there, masks and the lists with existence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, is_number
from perception3d.datasets.lane_building import (
    Info,
    LaneFrame,
    SlotRule,
    build_lane_infos,
    mask_notes,
    require_lane_files,
    with_masks,
    write_lane_split,
)
from perception3d.datasets.lane_lists import read_gt_list, read_list
from perception3d.files import read_json
from perception3d.formats.culane import FORMAT
from perception3d.formats.culane.files import (
    DEPTH_FOLDER,
    LANE_WIDTH_PX,
    LINES_SUFFIX,
    MASK_FOLDER,
    SEMANTIC_FOLDER,
    SLOTS,
    STEERING_FILE,
    read_annotation,
    read_categories,
    require_root,
)

_RULE = SlotRule(SLOTS, LANE_WIDTH_PX)


def create_infos(
    root: str | Path, redraw: bool = False, jobs: int | None = None, progress: bool = True
) -> dict[str, dict[str, Any]]:
    """Checks the tree, draws what is not there, then writes the info file of every split that has a list.

    The images of a split are those of `list/train_gt.txt` and `val_gt.txt` where these are there, else of `train.txt`
    and `val.txt`: then the masks of `laneseg_label_w16` are taken where all are there, or drawn there from the
    annotations, 16 pixels wide, where none is, and `train_gt.txt` and `val_gt.txt` are written. A list whose masks are
    all missing has them drawn, in the slots that it says exist; all else have the slots of `assign_slots`. Of the test
    split, `list/test.txt`, each image has its category by `list/test_split`.

    Where `extra/` of the built-in world is there, infos have `steering_rad`, `depth_path` and `semantic_path`.

    Args:
        root: the folder that holds `list` and the folders of images.
        redraw: draw all masks and write the lists again.
        jobs: processes, as of `map_frames`.
        progress: show a bar.

    Returns:
        split -> {'path', 'frames', 'lanes', 'notes'}.

    Raises:
        InputError: files are missing, which are counted and named, or one cannot be used; without lists some masks are
            there, not all.
    """
    root = require_root(root)
    splits = {split: _frames(root, split, redraw) for split in ('train', 'val', 'test')}
    splits = {split: frames for split, frames in splits.items() if frames}
    if not splits:
        raise InputError(f'{root / "list"} names no images: expected train_gt.txt, train.txt, val.txt or test.txt')
    for split, frames in splits.items():
        annotations = [frame.source for frame in frames] if split != 'test' else []
        require_lane_files(root, frames, f'the list of {split}', annotations)
    every = [frame for frames in splits.values() for frame in frames]
    infos = build_lane_infos(root, every, partial(_read, root=root), _RULE, jobs, progress)
    _add_extra(root, infos)
    written, first = {}, 0
    for split, frames in splits.items():
        own = infos[first : first + len(frames)]
        first += len(frames)
        listed = root / 'list' / f'{split}_gt.txt'
        notes = [*mask_notes(frames, own, listed), *(_test_notes(root, frames) if split == 'test' else ())]
        written[split] = write_lane_split(root, split, own, {'dataset': FORMAT.name, 'slots': SLOTS}, notes)
    return written


def _read(source: str, root: Path) -> list[npt.NDArray[np.float64]]:
    """Returns the lanes of an annotation; where a test image has no file it has no lanes, as in the evaluation."""
    return read_annotation(root / source) if (root / source).is_file() else []


def _frames(root: Path, split: str, redraw: bool) -> list[LaneFrame]:
    """Returns the images of a split, in the order of its list; none without a list."""
    plain, listed = root / 'list' / f'{split}.txt', root / 'list' / f'{split}_gt.txt'
    has_masks = split != 'test' and listed.is_file()
    if not has_masks and not plain.is_file():
        return []
    frame_ids = list(read_gt_list(listed, len(SLOTS))) if has_masks else read_list(plain)
    categories = read_categories(root) if split == 'test' else {}
    frames = [
        LaneFrame(
            f'{frame_id}.jpg',
            f'{frame_id}{LINES_SUFFIX}',
            extra={'category': categories[frame_id]} if frame_id in categories else None,
        )
        for frame_id in frame_ids
    ]
    return frames if split == 'test' else with_masks(frames, root, listed, _RULE, MASK_FOLDER, redraw)


def _add_extra(root: Path, infos: Sequence[Info]) -> None:
    """Adds what the built-in world writes next to CULane's own files, of the images that have it."""
    steering = _read_steering(root / STEERING_FILE) if (root / STEERING_FILE).is_file() else {}
    folders = {'depth_path': DEPTH_FOLDER, 'semantic_path': SEMANTIC_FOLDER}
    folders = {key: folder for key, folder in folders.items() if (root / folder).is_dir()}
    for info in infos:
        frame_id = info['frame_id']
        if frame_id in steering:
            info['steering_rad'] = steering[frame_id]
        for key, folder in folders.items():
            if (root / folder / f'{frame_id}.png').is_file():
                info[key] = f'{folder}/{frame_id}.png'


def _read_steering(path: Path) -> dict[str, float]:
    """Returns frame id -> angle, radians.

    Raises:
        InputError: the file is no such table, or an angle is not a finite number; names the frame.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f'{path}: expected {{frame id: angle in radians, ..}}, got {str(content)[:80]}')
    for frame_id, angle in content.items():
        if not is_number(angle):
            raise InputError(f'{path}, {frame_id}: {repr(angle)[:80]}: expected a finite number, the angle in radians')
    return {frame_id: float(angle) for frame_id, angle in content.items()}


def _test_notes(root: Path, frames: Sequence[LaneFrame]) -> list[str]:
    notes = []
    missing = sum(not (root / frame.source).is_file() for frame in frames)
    if missing:
        notes.append(f'{missing} images have no {LINES_SUFFIX} and count as images without lanes')
    unsorted = sum(frame.extra is None for frame in frames)
    if unsorted:
        notes.append(f'{unsorted} images are in no list of list/test_split')
    return notes
