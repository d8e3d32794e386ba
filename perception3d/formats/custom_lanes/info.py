"""Info files of one's own images with lanes: `train.json`, `val.json`, `test.json` and the images that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perception3d.checks import InputError, require_folder
from perception3d.datasets.frame_building import SPLITS
from perception3d.datasets.lane_building import (
    LaneFrame,
    SlotRule,
    build_lane_infos,
    mask_notes,
    require_lane_files,
    write_lane_split,
)
from perception3d.formats.custom_lanes import FORMAT
from perception3d.formats.custom_lanes.files import EXAMPLE, SPLIT_FILE, Lane, LaneLine, read_lane_lines, slot_names


def create_infos(
    root: str | Path, num_slots: int = 4, jobs: int | None = None, progress: bool = True
) -> dict[str, dict[str, Any]]:
    """Checks the tree, then writes the info file of every split that has a file of lanes.

    Slots that a line does not state are those of `datasets.lane_masks.assign_slots`. Masks are drawn when an image is
    loaded, unless a line names one. Images of `test.json` may be without lanes.

    Args:
        root: the folder of the files of lanes; paths in them are relative to it.
        num_slots: lanes that a network can tell apart: an even number, around the ego lane, 1 for any lane alike, or an
            odd number where every line states its slots.
        jobs: processes, as of `map_frames`.
        progress: show a bar.

    Returns:
        split -> {'path', 'frames', 'lanes', 'notes'}.

    Raises:
        InputError: files are missing, which are counted and named, or one cannot be used.
    """
    root = require_folder(Path(root).resolve(), 'give --root the folder that holds train.json, val.json, ..')
    slots = slot_names(num_slots)
    files = {split: root / SPLIT_FILE.format(split) for split in SPLITS}
    splits = {split: read_lane_lines(path) for split, path in files.items() if path.is_file()}
    if not splits:
        raise InputError(f'{root} has none of {", ".join(path.name for path in files.values())}: write {EXAMPLE}')
    # Masks of files are checked by the loading step; the width is that of the step, too.
    rule = SlotRule(slots, 1)
    frames = {split: [_frame(line, split, num_slots) for line in lines] for split, lines in splits.items()}
    for split, own in frames.items():
        require_lane_files(root, own, files[split].name)
    built = {split: build_lane_infos(root, own, _lanes_of, rule, jobs, progress) for split, own in frames.items()}
    metainfo = {'dataset': FORMAT.name, 'slots': slots}
    return {
        split: write_lane_split(root, split, infos, metainfo, mask_notes(frames[split], infos))
        for split, infos in built.items()
    }


def _lanes_of(line: LaneLine) -> list[Lane] | None:
    return None if line.lanes is None else list(line.lanes)


def _frame(line: LaneLine, split: str, num_slots: int) -> LaneFrame:
    """Returns the image of a line, once it fits the split and the number of slots."""
    if line.lanes is None:
        if split != 'test':
            raise InputError(f'{line.place} has no lanes: only images of test.json may be without, expected {EXAMPLE}')
        return LaneFrame(line.image, line)
    if line.slots is None and num_slots > 1 and num_slots % 2:
        raise InputError(f'{line.place} states no slots: with {num_slots} slots, which have no middle, give "slots"')
    if line.slots is not None and max(line.slots, default=0) >= num_slots:
        raise InputError(
            f'{line.place} has the slot {max(line.slots)}: expected 0 to {num_slots - 1}, or give --slots N'
        )
    return LaneFrame(line.image, line, line.mask, slots=line.slots)
