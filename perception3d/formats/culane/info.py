"""Info files of a CULane tree, and before them, where they are not there, masks and the lists with existence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.datasets.frame_building import map_frames
from perception3d.datasets.lane_building import require_lane_files, write_lane_split
from perception3d.datasets.lane_files import image_hw
from perception3d.datasets.lane_masks import assign_slots, draw_lane_mask, existing_slots
from perception3d.files import read_json, write_bytes, write_image
from perception3d.formats.culane import FORMAT
from perception3d.formats.culane.files import (
    DEPTH_FOLDER,
    LANE_WIDTH_PX,
    LINES_SUFFIX,
    MASK_FOLDER,
    SEMANTIC_FOLDER,
    SLOTS,
    STEERING_FILE,
    format_gt_list,
    read_annotation,
    read_categories,
    read_gt_list,
    read_list,
    require_root,
)

_TRAINED = ('train', 'val')
Info = dict[str, Any]


@dataclass(frozen=True)
class Frame:
    """One image to build.

    Attributes:
        frame_id: its path relative to the root, without suffix.
        mask: that of its mask; None in the test split.
        draw: the mask is drawn, else it is there.
        exist: existence of the slots by a list.
        needs_lanes: its annotation must be there; without it an image of the test has no lanes, as in the official
            evaluation.
    """

    frame_id: str
    mask: str | None = None
    draw: bool = False
    exist: tuple[int, ...] | None = None
    needs_lanes: bool = True


def build_frame(frame: Frame, root: Path) -> Info:
    """Returns the info of an image; draws its mask if asked.

    Raises:
        InputError: image, annotation or mask cannot be used; names the file.
    """
    image = f'{frame.frame_id}.jpg'
    height, width = stored_hw = image_hw(root / image)
    path = root / f'{frame.frame_id}{LINES_SUFFIX}'
    lanes = read_annotation(path) if frame.needs_lanes or path.is_file() else []
    slots = assign_slots(lanes, len(SLOTS), stored_hw, frame.exist)
    info: Info = {
        'frame_id': frame.frame_id,
        'labelled': True,
        'images': {'front': {'img_path': image, 'height': height, 'width': width}},
        'lanes': lanes,
        'lane_slots': slots,
        'lane_exist': list(frame.exist or [int(slot in slots) for slot in range(len(SLOTS))]),
    }
    if frame.mask is not None:
        info['lane_mask_path'] = frame.mask
        if frame.draw:
            mask = draw_lane_mask(lanes, slots, stored_hw, LANE_WIDTH_PX)
            info['lane_exist'] = existing_slots(mask, len(SLOTS))
            write_image(root / frame.mask, mask)
        elif image_hw(root / frame.mask) != stored_hw:
            found = 'x'.join(map(str, image_hw(root / frame.mask)[::-1]))
            raise InputError(
                f'{root / frame.mask} is a mask of {found} pixels, but its image has {width}x{height}: copy it again, '
                'or draw all masks with --redraw'
            )
    return info


def create_infos(
    root: str | Path, redraw: bool = False, jobs: int | None = None, progress: bool = True
) -> dict[str, dict[str, Any]]:
    """Checks the tree, draws what is not there, then writes the info file of every split that has a list.

    A split is read from `list/train_gt.txt` and `val_gt.txt` where they are there, else from `train.txt` and `val.txt`:
    then masks are drawn from the annotations, 16 pixels wide into `laneseg_label_w16`, and `train_gt.txt` and
    `val_gt.txt` are written. A list whose masks are all missing has them drawn. The slots of drawn lanes are those of
    `assign_slots`. Of the test split, `list/test.txt`, each image has its category by `list/test_split`.

    Where `extra/` of the built-in world is there, infos have `steering_rad`, `depth_path` and `semantic_path`.

    Args:
        root: the folder that holds `list` and the folders of images.
        redraw: draw all masks and write the lists again.
        jobs: processes, as of `map_frames`.
        progress: show a bar.

    Returns:
        split -> {'path', 'frames', 'lanes', 'notes'}.

    Raises:
        InputError: files are missing, which are counted and named, or one cannot be used.
    """
    root = require_root(root)
    splits = {split: _frames(root, split, redraw) for split in (*_TRAINED, 'test')}
    splits = {split: frames for split, frames in splits.items() if frames}
    if not splits:
        raise InputError(f'{root / "list"} names no images: expected train_gt.txt, train.txt, val.txt or test.txt')
    _require_files(root, splits)
    frames = [frame for entries in splits.values() for frame in entries]
    infos = map_frames(partial(build_frame, root=root), frames, jobs, progress, 'reading lanes')
    _add_extra(root, infos)
    categories = read_categories(root)
    for info in infos:
        if info['frame_id'] in categories:
            info['category'] = categories[info['frame_id']]
    metainfo = {'dataset': FORMAT.name, 'categories': {name: slot for slot, name in enumerate(SLOTS)}}
    written, first = {}, 0
    for split, entries in splits.items():
        own = infos[first : first + len(entries)]
        first += len(entries)
        notes = _notes(root, split, entries, own)
        written[split] = write_lane_split(root, split, own, metainfo, notes)
    return written


def _frames(root: Path, split: str, redraw: bool) -> list[Frame]:
    """Returns the images of a split, in the order of its list; none without a list."""
    plain, listed = root / 'list' / f'{split}.txt', root / 'list' / f'{split}_gt.txt'
    if split == 'test':
        return [Frame(frame_id, needs_lanes=False) for frame_id in read_list(plain)] if plain.is_file() else []
    if listed.is_file() and not (redraw and plain.is_file()):
        entries = read_gt_list(listed)
        draw = redraw or not any((root / mask).is_file() for mask, _ in entries.values())
        # Drawn again, the slots are by our rule, else those of the list, which others may read.
        return [
            Frame(frame_id, _mask_path(mask, frame_id, listed), draw, None if redraw else tuple(exist))
            for frame_id, (mask, exist) in entries.items()
        ]
    if not plain.is_file():
        return []
    return [Frame(frame_id, f'{MASK_FOLDER}/{frame_id}.png', True) for frame_id in read_list(plain)]


def _mask_path(mask: str, frame_id: str, source: Path) -> str:
    if not mask.endswith('.png') or '..' in mask.split('/'):
        raise InputError(f'{source}: the mask of {frame_id} is {mask!r}: expected the path of a .png in the root')
    return mask


def _require_files(root: Path, splits: dict[str, list[Frame]]) -> None:
    for split, frames in splits.items():
        wanted = [f'{frame.frame_id}.jpg' for frame in frames]
        wanted += [f'{frame.frame_id}{LINES_SUFFIX}' for frame in frames if frame.needs_lanes]
        wanted += [frame.mask for frame in frames if frame.mask is not None and not frame.draw]
        require_lane_files(root, wanted, f'the list of {split}')


def _add_extra(root: Path, infos: Sequence[Info]) -> None:
    """Adds what the built-in world writes next to CULane's own files, of the images that have it."""
    steering = read_json(root / STEERING_FILE) if (root / STEERING_FILE).is_file() else {}
    folders = {'depth_path': DEPTH_FOLDER, 'semantic_path': SEMANTIC_FOLDER}
    folders = {key: folder for key, folder in folders.items() if (root / folder).is_dir()}
    for info in infos:
        frame_id = info['frame_id']
        if frame_id in steering:
            info['steering_rad'] = float(steering[frame_id])
        for key, folder in folders.items():
            if (root / folder / f'{frame_id}.png').is_file():
                info[key] = f'{folder}/{frame_id}.png'


def _notes(root: Path, split: str, frames: Sequence[Frame], infos: Sequence[Info]) -> list[str]:
    """Writes the list with existence where masks were drawn for a plain list; returns what is to be said of a split."""
    notes = []
    drawn = (
        [(info['frame_id'], info['lane_mask_path'], info['lane_exist']) for info in infos] if (frames[0].draw) else []
    )
    if drawn:
        notes.append(f'{len(drawn)} masks drawn')
        if frames[0].exist is None:
            path = root / 'list' / f'{split}_gt.txt'
            write_bytes(path, format_gt_list(drawn).encode())
            notes.append(f'existence of lanes written to {path}')
    without = sum(not np.asarray(info['lane_slots'] >= 0).all() for info in infos)
    if without:
        notes.append(f'{without} images have lanes without a slot, which masks ignore')
    if split == 'test':
        missing = sum(not (root / f'{frame.frame_id}{LINES_SUFFIX}').is_file() for frame in frames)
        if missing:
            notes.append(f'{missing} images have no {LINES_SUFFIX} and count as images without lanes')
        unsorted = sum('category' not in info for info in infos)
        if unsorted:
            notes.append(f'{unsorted} images are in no list of list/test_split')
    return notes
