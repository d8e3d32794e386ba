"""Info files of a TuSimple tree, and before them, where they are not there, masks and the lists with existence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perception3d.checks import InputError, require_folder
from perception3d.datasets.lane_building import (
    LaneFrame,
    SlotRule,
    build_lane_infos,
    mask_notes,
    require_lane_files,
    with_masks,
    write_lane_split,
)
from perception3d.formats.tusimple import FORMAT
from perception3d.formats.tusimple.files import (
    LANE_WIDTH_PX,
    LIST_FOLDER,
    MASK_FOLDER,
    SLOTS,
    TEST_FILES,
    TRAIN_FILES,
    VAL_FILE,
    LabelLine,
    read_labels,
)


def create_infos(
    root: str | Path,
    redraw: bool = False,
    width_px: int = LANE_WIDTH_PX,
    jobs: int | None = None,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Checks the tree, draws what is not there, then writes the info file of every split that has a label file.

    `val` is `label_data_0531.json` (358 images), `train` all other `label_data_*.json` (0313 and 0601: 3268),
    `trainval` both where both are there; `test` is `test_label.json`, or without it `test_tasks_0627.json`, which has
    no lanes. So does RESA's `generate_seg_tusimple.py`. Masks of six lanes are drawn into `segGT6`, in the slots of
    `assign_slots`, unless all are there, and `list6/train_gt.txt` and `list6/val_gt.txt` written, unless these lists
    are there: then their masks are taken. TuSimple itself has neither masks nor slots; the default of the width is
    CULane's, that script has 30 pixels.

    Args:
        root: the folder that holds `clips` and the label files.
        redraw: draw all masks and write the lists again.
        width_px: of drawn lanes, stored pixels.
        jobs: processes, as of `map_frames`.
        progress: show a bar.

    Returns:
        split -> {'path', 'frames', 'lanes', 'notes'}.

    Raises:
        InputError: files are missing, which are counted and named, or one cannot be used; without lists some masks are
            there, not all; a width below 1.
    """
    root = require_folder(Path(root).resolve(), 'give --root the folder that holds clips/ and label_data_*.json')
    if width_px < 1:
        raise InputError(f'lanes {width_px} pixels wide cannot be drawn: give --width 1 or more')
    rule = SlotRule(SLOTS, width_px)
    splits = {split: _frames(root, files) for split, files in _label_files(root).items()}
    for split, frames in splits.items():
        require_lane_files(root, frames, f'the labels of {split}')
    for split in ('train', 'val'):
        if split in splits:
            listed = root / LIST_FOLDER / f'{split}_gt.txt'
            splits[split] = with_masks(splits[split], root, listed, rule, MASK_FOLDER, redraw)
            require_lane_files(root, splits[split], f'the list of {split}')
    metainfo = {'dataset': FORMAT.name, 'slots': SLOTS}
    built = {
        split: build_lane_infos(root, frames, LabelLine.polylines, rule, jobs, progress)
        for split, frames in splits.items()
    }
    written = {}
    for split, infos in built.items():
        notes = mask_notes(splits[split], infos, root / LIST_FOLDER / f'{split}_gt.txt')
        if width_px != LANE_WIDTH_PX and any(frame.mask and not frame.draw for frame in splits[split]):
            notes.append(f'masks are kept as they are: to draw lanes {width_px} pixels wide give --redraw too')
        written[split] = write_lane_split(root, split, infos, metainfo, notes)
    if 'train' in built and 'val' in built:
        written['trainval'] = write_lane_split(root, 'trainval', built['train'] + built['val'], metainfo)
    return written


def _label_files(root: Path) -> dict[str, list[Path]]:
    """Returns the label files of each split that has one."""
    found = sorted(root.glob(TRAIN_FILES))
    test = [root / name for name in TEST_FILES if (root / name).is_file()]
    splits = {
        'train': [path for path in found if path.name != VAL_FILE],
        'val': [path for path in found if path.name == VAL_FILE],
        'test': test[:1],
    }
    splits = {split: files for split, files in splits.items() if files}
    if not splits:
        raise InputError(
            f'{root} has neither {TRAIN_FILES} nor {", ".join(TEST_FILES)}: unpack the labels of TuSimple there'
        )
    return splits


def _frames(root: Path, files: list[Path]) -> list[LaneFrame]:
    frames: dict[str, LaneFrame] = {}
    for path in files:
        for line in read_labels(path):
            if line.raw_file in frames:
                raise InputError(f'{line.place}: {line.raw_file} is in another label file too: remove one of them')
            if path.name == TEST_FILES[1]:
                # Tasks may have an empty list of lanes.
                line = LabelLine(line.raw_file, line.h_samples, None, line.place)
            elif line.lanes is None:
                raise InputError(f'{line.place} has no lanes: only the tasks of the test have none')
            frames[line.raw_file] = LaneFrame(line.raw_file, line, extra={'h_samples': list(line.h_samples)})
    return list(frames.values())
