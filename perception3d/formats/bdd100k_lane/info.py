"""Info files of a BDD100K tree; before them one line for each marking, masks of the SAD paper, and lists of both."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perception3d.checks import InputError, require_folder
from perception3d.datasets.lane_building import (
    LaneFrame,
    SlotRule,
    build_lane_infos,
    mask_notes,
    require_lane_files,
    write_lane_split,
)
from perception3d.datasets.lane_masks import OWN_MASK_FOLDER
from perception3d.formats.bdd100k_lane import FORMAT
from perception3d.formats.bdd100k_lane.annotations import Marking, Points, annotation_source, read_markings
from perception3d.formats.bdd100k_lane.centre_lines import centre_lines
from perception3d.formats.bdd100k_lane.files import (
    IMAGE_FOLDER,
    LIST_FOLDER,
    MASK_WIDTH_PX,
    SIZE_WH,
    SLOTS,
    SPLITS,
)


def create_infos(
    root: str | Path, all_markings: bool = False, jobs: int | None = None, progress: bool = True
) -> dict[str, dict[str, Any]]:
    """Checks the tree, draws masks, then writes the info file and the list of every split that is there.

    Of `train` and `val` the annotated images are taken, of `test` all images. Lanes are the lines of `centre_lines`,
    all of the slot `lane`. Masks, `perception3d_lane_masks/SPLIT/NAME.png`, are 1 on lanes, 8 pixels wide in `train`
    and 2 in `val`; `perception3d_lane_lists/SPLIT_gt.txt` has a line `/image /mask exists` for each image, as in the
    release of SAD. Markings across the road (direction `vertical`) and crosswalks are no lanes and left out: this is
    OUR choice, the release does not say.

    Args:
        root: the folder that holds `images/100k` and `labels`.
        all_markings: markings across the road and crosswalks are lanes as well.
        jobs: processes, as of `map_frames`.
        progress: show a bar.

    Returns:
        split -> {'path', 'frames', 'lanes', 'notes'}.

    Raises:
        InputError: annotations or images are missing, or one cannot be used.
    """
    root = require_folder(Path(root).resolve(), 'give --root the folder that holds images/100k and labels')
    require_folder(root / IMAGE_FOLDER, 'unpack the 100K images of BDD100K')
    splits = {split: _frames(root, split, all_markings) for split in SPLITS}
    splits = {split: frames for split, frames in splits.items() if frames}
    if not splits:
        raise InputError(
            f'{root} has neither labels/lane/polygons/lane_train.json nor other lane labels of BDD100K, nor images of '
            f'the test split in {IMAGE_FOLDER}/test: unpack them'
        )
    built = {
        split: build_lane_infos(root, frames, _lines_of, SlotRule(SLOTS, MASK_WIDTH_PX.get(split, 1)), jobs, progress)
        for split, frames in splits.items()
    }
    metainfo = {'dataset': FORMAT.name, 'slots': SLOTS}
    return {
        split: write_lane_split(root, split, infos, metainfo, _notes(root, split, splits[split], infos))
        for split, infos in built.items()
    }


def _frames(root: Path, split: str, all_markings: bool) -> list[LaneFrame]:
    """Returns the images of a split by name; none where it is not there."""
    source = annotation_source(root, split)
    if split not in MASK_WIDTH_PX:
        if source is not None:
            raise InputError(f'{source}: BDD100K has no public labels of {split}: move them away')
        return [LaneFrame(f'{IMAGE_FOLDER}/{split}/{name}.jpg') for name in _stored(root, split)]
    if source is None:
        return []
    markings = {name: _lanes_of(found, all_markings) for name, found in read_markings(source).items()}
    images, masks = f'{IMAGE_FOLDER}/{split}', f'{OWN_MASK_FOLDER}/{split}'
    frames = [
        LaneFrame(f'{images}/{name}.jpg', markings[name], f'{masks}/{name}.png', draw=True) for name in sorted(markings)
    ]
    require_lane_files(root, frames, str(source))
    return frames


def _lines_of(markings: Sequence[Marking] | None) -> list[Points] | None:
    return None if markings is None else centre_lines(markings)


def _stored(root: Path, split: str) -> list[str]:
    """Returns the names of all images of a split, sorted."""
    folder = root / IMAGE_FOLDER / split
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(name.removesuffix('.jpg') for name in names if name.endswith('.jpg'))


def _lanes_of(markings: Sequence[Marking], all_markings: bool) -> tuple[Marking, ...]:
    return tuple(
        marking
        for marking in markings
        if all_markings or (marking.direction == 'parallel' and marking.category != 'crosswalk')
    )


def _notes(root: Path, split: str, frames: Sequence[LaneFrame], infos: Sequence[dict[str, Any]]) -> list[str]:
    """Writes the list of a labelled split; returns what is to be said of the split."""
    if split not in MASK_WIDTH_PX:
        return []
    lines = sum(len(frame.source) for frame in frames)
    lanes = sum(len(info['lanes']) for info in infos)
    notes = [
        f'{lines} annotated lines became {lanes} lanes, {MASK_WIDTH_PX[split]} pixels wide in the masks',
        *mask_notes(frames, infos, root / LIST_FOLDER / f'{split}_gt.txt'),
    ]
    sizes = Counter((image['width'], image['height']) for info in infos for image in info['images'].values())
    other = {size: count for size, count in sizes.items() if size != SIZE_WH}
    if other:
        (width, height), wanted = next(iter(other)), 'x'.join(map(str, SIZE_WH))
        notes.append(
            f'{sum(other.values())} images are not {wanted}, such as one of {width}x{height}, but labels and the width '
            'of lanes are in those pixels: use the original images'
        )
    without = len(_stored(root, split)) - len(infos)
    if without > 0:
        notes.append(f'{without} images of {IMAGE_FOLDER}/{split} are not annotated and left out')
    return notes
