"""BDD100K's lane files: names of their folders, the byte of a label PNG, and masks of lane or not; without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, require_file

DIRECTIONS = ('parallel', 'vertical')
STYLES = ('solid', 'dashed')
CATEGORIES = (
    'crosswalk', 'double other', 'double white', 'double yellow', 'road curb', 'single other', 'single white',
    'single yellow',
)  # fmt: skip
"""The names of the bits of a label byte, in the order of their values."""

TASKS = {'direction': DIRECTIONS, 'style': STYLES, 'category': CATEGORIES}
"""The three attributes of a marking that BDD100K scores, in its order."""

BACKGROUND_BIT = 1 << 3
_FIRST_BIT = {'direction': 5, 'style': 4, 'category': 0}

Bytes = npt.NDArray[np.uint8]


def attribute_of_byte(task: str) -> npt.NDArray[np.int64]:
    """Returns, for each byte 0..255 of a label PNG, the value of an attribute; -1 for background.

    Bits 0 to 2 are the category, bit 3 says background, bit 4 is the style (1 dashed), bit 5 the direction (1 vertical,
    across the road). Bits 6 and 7 mean nothing: the usual background 255 has bit 3 set. Source: `bdd100k/eval/lane.py`
    and the page "Label Format" of BDD100K.
    """
    byte = np.arange(256)
    value = byte >> _FIRST_BIT[task] & (len(TASKS[task]) - 1)
    return np.where(byte & BACKGROUND_BIT, -1, value)


def read_label_png(path: str | Path) -> Bytes:
    """Returns the bytes (H, W) of a PNG with one channel of 8 bits; of a palette, its indices.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    from PIL import Image

    path = require_file(path)
    try:
        with Image.open(path) as image:
            if image.mode not in ('L', 'P', '1'):
                raise InputError(
                    f'{path} is a picture of mode {image.mode}: expected one channel of 8 bits, the label bytes or '
                    'masks and not the coloured maps'
                )
            return np.asarray(image, np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'{path} is not a readable PNG ({error}): write or download it again') from error


SLOTS = ('lane',)
"""Masks of lanes say lane or not."""
SPLITS = ('train', 'val', 'test')
"""BDD100K's own; the SAD paper tests on `val`, since labels of `test` are not public."""
IMAGE_FOLDER = 'images/100k'
LIST_FOLDER = 'perception3d_lane_lists'
SIZE_WH = (1280, 720)
"""Of all images; labels are in its pixels."""
MASK_WIDTH_PX = {'train': 8, 'val': 2}
"""Width of the lines in masks, in 1280x720, as in the SAD paper."""
