"""Info files of a LLAMAS tree, and masks of its markers where they are asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from perception3d.checks import InputError, require_folder
from perception3d.datasets.frame_building import map_frames
from perception3d.datasets.lane_building import LaneFrame, require_lane_files, write_lane_split
from perception3d.datasets.lane_files import image_hw
from perception3d.datasets.lane_masks import OWN_MASK_FOLDER
from perception3d.files import write_image
from perception3d.formats.llamas import FORMAT
from perception3d.formats.llamas.files import (
    IMAGE_FOLDER,
    IMAGE_SUFFIX,
    LABEL_FOLDER,
    SIZE_WH,
    SLOTS,
    SPLITS,
    label_lanes,
    marker_mask,
    read_label,
)


def build_frame(image: str, root: Path, marker_masks: bool) -> dict[str, Any]:
    """Returns the info of an image, by its path relative to the root; draws its mask if asked.

    Raises:
        InputError: image or label cannot be used; names the file.
    """
    height, width = image_hw(root / image)
    if (width, height) != SIZE_WH:
        raise InputError(
            f'{root / image} is {width} x {height} pixels: expected {SIZE_WH[0]} x {SIZE_WH[1]}, the images of LLAMAS'
        )
    info: dict[str, Any] = {
        'frame_id': image.removesuffix('.png'),
        'labelled': False,
        'images': {'front': {'img_path': image, 'height': height, 'width': width}},
    }
    inside = image.removeprefix(f'{IMAGE_FOLDER}/').removesuffix(IMAGE_SUFFIX)
    label_path = f'{LABEL_FOLDER}/{inside}.json'
    if not (root / label_path).is_file():
        return info
    label = read_label(root / label_path)
    _, slots = label_lanes(label)
    exist = [int(slot in slots) for slot in range(len(SLOTS))]
    info.update(labelled=True, label_path=label_path, lane_slots=slots, lane_exist=exist)
    if marker_masks:
        info['lane_mask_path'] = f'{OWN_MASK_FOLDER}/{inside}.png'
        write_image(root / info['lane_mask_path'], marker_mask(label))
    return info


def create_infos(
    root: str | Path, marker_masks: bool = False, jobs: int | None = None, progress: bool = True
) -> dict[str, dict[str, Any]]:
    """Checks the tree, then writes the info file of every split that is there.

    Of `train` and `valid` the labelled images are taken, of `test` all images.

    Args:
        root: the folder that holds `color_images` and `labels`.
        marker_masks: also draw the official segmentation labels, the painted markers, into `perception3d_lane_masks`:
            networks then learn markers, as average precision wants it, and not the lines through them.
        jobs: processes, as of `map_frames`.
        progress: show a bar.

    Returns:
        split -> {'path', 'frames', 'lanes', 'notes'}.

    Raises:
        InputError: images or labels are missing, or one cannot be used.
    """
    root = require_folder(Path(root).resolve(), 'give --root the folder that holds color_images and labels')
    require_folder(root / IMAGE_FOLDER, 'unpack the colour images of LLAMAS')
    splits = {split: images for split in SPLITS if (images := _images(root, split))}
    if not splits:
        raise InputError(f'{root} has no labels/train/RECORDING/LABEL.json, nor images of the test: unpack LLAMAS')
    build = partial(build_frame, root=root, marker_masks=marker_masks)
    built = {split: map_frames(build, images, jobs, progress, 'reading lanes') for split, images in splits.items()}
    metainfo = {'dataset': FORMAT.name, 'slots': SLOTS}
    return {split: write_lane_split(root, split, infos, metainfo) for split, infos in built.items()}


def _images(root: Path, split: str) -> list[str]:
    """Returns the images of a split relative to the root, sorted; none where it is not there."""
    if split == 'test':
        found = sorted((root / IMAGE_FOLDER / split).glob(f'*/*{IMAGE_SUFFIX}'))
        return [path.relative_to(root).as_posix() for path in found]
    labels = sorted((root / LABEL_FOLDER / split).glob('*/*.json'))
    images = [
        f'{IMAGE_FOLDER}/{split}/{path.parent.name}/{path.name.removesuffix(".json")}{IMAGE_SUFFIX}' for path in labels
    ]
    require_lane_files(root, [LaneFrame(image) for image in images], f'{LABEL_FOLDER}/{split}')
    return images
