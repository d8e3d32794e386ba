"""What the formats of lanes share when their infos are built: masks, lists with existence, info files, the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.datasets.frame_building import INFO_FILE, map_frames
from perception3d.datasets.lane_files import image_hw
from perception3d.datasets.lane_lists import format_gt_list, read_gt_list
from perception3d.datasets.lane_masks import assign_slots, draw_lane_mask, existing_slots, is_seen, read_lane_mask
from perception3d.files import write_bytes, write_image, write_pickle

Info = dict[str, Any]


@dataclass(frozen=True)
class SlotRule:
    """The slots of a format, left to right, and how wide its lanes are drawn, stored pixels.

    A lane that, drawn so, has no pixel in the image has no slot, also where the annotation states one.
    """

    names: tuple[str, ...]
    width_px: int


@dataclass(frozen=True)
class LaneFrame:
    """One image to build; paths are relative to the root.

    Attributes:
        image: its file.
        source: what `read` makes the lanes of: the path of an annotation, or a line of one.
        mask: the file of its mask; None where it has none on disk.
        draw: the mask is drawn, else it is there.
        exist: existence of the slots by a list.
        unlisted: the mask is there, but no list says which slots exist: that is read from it.
        slots: those of the lanes, where the annotation states them.
        extra: more keys of the info.
    """

    image: str
    source: Any = None
    mask: str | None = None
    draw: bool = False
    exist: tuple[int, ...] | None = None
    unlisted: bool = False
    slots: tuple[int, ...] | None = None
    extra: Mapping[str, Any] | None = None

    @property
    def frame_id(self) -> str:
        """The path of the image without its suffix."""
        return self.image.rpartition('.')[0]


def with_masks(
    frames: Sequence[LaneFrame], root: Path, listed: Path, rule: SlotRule, folder: str, redraw: bool
) -> list[LaneFrame]:
    """Returns the frames with their masks: those of a list such as `train_gt.txt`, which are drawn if all are missing.

    Without the list they are those of a folder, and are drawn if all are missing there. What is there is drawn again
    only with `redraw`, as if there were no list.

    Raises:
        InputError: the list cannot be used, or lacks one of the images; without a list some masks are there, not all.
    """
    if redraw or not listed.is_file():
        frames = [_with(frame, mask=f'{folder}/{frame.frame_id}.png', draw=True) for frame in frames]
        there = [] if redraw else [frame.mask for frame in frames if (root / str(frame.mask)).is_file()]
        if there and len(there) < len(frames):
            raise InputError(
                f'{root / folder} has masks of {len(there)} of {len(frames)} images ({there[0]}, ..) and there is no '
                f'{listed}: copy the others there, or draw all masks with --redraw, which replaces these'
            )
        return [_with(frame, draw=False, unlisted=True) for frame in frames] if there else frames
    entries = read_gt_list(listed, len(rule.names))
    draw = not any((root / mask).is_file() for mask, _ in entries.values())
    missing = [frame.frame_id for frame in frames if frame.frame_id not in entries]
    if missing:
        raise InputError(
            f'{listed} lacks {len(missing)} of {len(frames)} images ({missing[0]}, ..): --redraw writes it again'
        )
    return [
        _with(frame, mask=entries[frame.frame_id][0], draw=draw, exist=tuple(entries[frame.frame_id][1]))
        for frame in frames
    ]


def _with(frame: LaneFrame, **changes: Any) -> LaneFrame:
    return LaneFrame(**{**vars(frame), **changes})


def build_lane_infos(
    root: Path,
    frames: Sequence[LaneFrame],
    read: Callable[[Any], list[np.ndarray] | None],
    rule: SlotRule,
    jobs: int | None = None,
    progress: bool = True,
) -> list[Info]:
    """Returns the infos of images, as of LaneDataset; draws the masks that are to be drawn.

    Args:
        root: folder of the tree.
        frames: the images.
        read: returns the lanes of a `source`, None where it is not annotated; is sent to other processes.
        rule: slots and width.
        jobs: processes, as of `map_frames`.
        progress: show a bar.

    Raises:
        InputError: an image, annotation or mask cannot be used; names the file.
    """
    build = partial(_build, root=root, read=read, rule=rule)
    return map_frames(build, list(frames), jobs, progress, 'reading lanes')


def _build(frame: LaneFrame, root: Path, read: Callable[[Any], list[np.ndarray] | None], rule: SlotRule) -> Info:
    height, width = stored_hw = image_hw(root / frame.image)
    lanes = read(frame.source)
    info: Info = {
        'frame_id': frame.frame_id,
        'labelled': lanes is not None,
        'images': {'front': {'img_path': frame.image, 'height': height, 'width': width}},
        **(frame.extra or {}),
    }
    if lanes is None:
        return info
    num_slots = len(rule.names)
    known = frame.exist
    if frame.unlisted and frame.mask is not None:
        known = tuple(existing_slots(read_lane_mask(root / frame.mask, stored_hw, num_slots), num_slots))
    seen = np.array([is_seen(lane, stored_hw, rule.width_px) for lane in lanes], bool)
    slots = np.full(len(lanes), -1, np.int64)
    if frame.slots is None:
        slots[seen] = assign_slots([lane for lane, here in zip(lanes, seen) if here], num_slots, stored_hw, known)
    else:
        slots[seen] = np.asarray(frame.slots, np.int64)[seen]
    exist = list(known or [int(slot in slots) for slot in range(num_slots)])
    if frame.mask is not None:
        info['lane_mask_path'] = frame.mask
        if frame.draw:
            mask = draw_lane_mask(lanes, slots, stored_hw, rule.width_px)
            exist = existing_slots(mask, num_slots)
            write_image(root / frame.mask, mask)
        elif image_hw(root / frame.mask) != stored_hw:
            found = 'x'.join(map(str, image_hw(root / frame.mask)[::-1]))
            raise InputError(
                f'{root / frame.mask} is a mask of {found} pixels, but its image has {width}x{height}: copy it again, '
                'or draw all masks with --redraw'
            )
    return {**info, 'lanes': lanes, 'lane_slots': slots, 'lane_exist': exist}


def require_lane_files(root: Path, frames: Sequence[LaneFrame], source: str, others: Iterable[str] = ()) -> None:
    """Raises InputError unless images, masks that are not drawn, and others are there; counts and names the missing.

    Args:
        root: folder of the tree.
        frames: the images.
        source: what asks for them, for the error, such as 'list/train.txt'.
        others: more paths, relative to root.
    """
    wanted = [frame.image for frame in frames]
    wanted += [*others, *(frame.mask for frame in frames if frame.mask is not None and not frame.draw)]
    missing = [name for name in wanted if not (root / name).is_file()]
    if missing:
        some = ', '.join(missing[:3]) + (', ...' if len(missing) > 3 else '')
        raise InputError(
            f'{len(missing)} of {len(wanted)} files that {source} asks for are missing in {root} ({some}): unpack the '
            f'archives completely, or take the images out of {source}'
        )


def mask_notes(frames: Sequence[LaneFrame], infos: Sequence[Info], listed: Path | None = None) -> list[str]:
    """Returns what is to be said of the masks of a split; writes the list with existence that was not there.

    Args:
        frames: the images of the split.
        infos: their infos.
        listed: the list, such as `train_gt.txt`; None for a format without.
    """
    notes = []
    masked = [
        (frame, info)
        for frame, info in zip(frames, infos, strict=True)
        if (frame.draw or frame.unlisted) and info['labelled']
    ]
    drawn = sum(frame.draw for frame, _ in masked)
    if drawn:
        notes.append(f'{drawn} masks drawn')
    if masked and listed is not None and frames[0].exist is None:
        entries = [(info['frame_id'], info['lane_mask_path'], info['lane_exist']) for _, info in masked]
        write_bytes(listed, format_gt_list(entries).encode())
        notes.append(f'existence of lanes written to {listed}')
    without = sum(bool((np.asarray(info.get('lane_slots', ())) < 0).any()) for info in infos)
    if without:
        notes.append(f'{without} images have lanes without a slot, which masks ignore')
    return notes


def write_lane_split(
    root: Path, split: str, infos: Sequence[Info], metainfo: Mapping[str, Any], notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Numbers the infos of a split and writes its info file; returns what `print_lane_summary` reports of it.

    Args:
        root: folder of the tree.
        split: its name.
        infos: as of LaneDataset.
        metainfo: `dataset`, `slots` (names, left to right), and more.
        notes: for the table.
    """
    numbered = [{'sample_idx': index, **info} for index, info in enumerate(infos)]
    slots = metainfo['slots']
    counts = dict.fromkeys((*slots, 'no slot'), 0)
    for info in infos:
        for slot in np.asarray(info.get('lane_slots', ()), np.int64).tolist():
            counts[[*slots, 'no slot'][slot]] += 1
    path = root / INFO_FILE.format(split)
    categories = {name: slot for slot, name in enumerate(slots)}
    metainfo = {**metainfo, 'slots': list(slots), 'categories': categories, 'split': split, 'info_version': '1.1'}
    write_pickle(path, {'metainfo': metainfo, 'data_list': numbered})
    return {'path': path, 'frames': len(infos), 'lanes': counts, 'notes': list(notes)}


def print_lane_summary(splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints for each split its file, its images, the lanes of each slot, and notes."""
    for split, entry in splits.items():
        print(f'{split}: {entry["frames"]} images -> {entry["path"]}')
    names = list(dict.fromkeys(name for entry in splits.values() for name in entry['lanes']))
    print(f'{"lanes":<22}' + ''.join(f'{split:>16}' for split in splits))
    for name in names:
        print(f'{name:<22}' + ''.join(f'{entry["lanes"].get(name, 0):>16}' for entry in splits.values()))
    for split, entry in splits.items():
        for note in entry['notes']:
            print(f'note: {split}: {note}')
