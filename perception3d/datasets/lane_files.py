"""Images, folders of images and videos as samples of lanes, for inference; sizes of images without decoding them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from perception3d.checks import InputError, require_file

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')
_VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov')
# Of the orientations in the header of a photograph, those that OpenCV turns by a quarter.
_ORIENTATION_TAG, _TURNED = 0x0112, (5, 6, 7, 8)


def image_hw(path: str | Path) -> tuple[int, int]:
    """Returns height and width of an image as it is loaded; of the file only the header is read.

    Raises:
        InputError: the file is missing or is no image.
    """
    from PIL import Image

    path = require_file(path, 'check the data root and that the archive was unpacked completely')
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Of a PNG without one in its header, PIL would decode all to look for one behind the pixels.
            has_one = image.format != 'PNG' or 'exif' in image.info
            turned = has_one and image.getexif().get(_ORIENTATION_TAG) in _TURNED
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f'{path} does not decode as an image: it is damaged, copy or download it again') from error
    return (width, height) if turned else (height, width)


def images_of(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yields a sample for an image, for each image of a folder by name, or for each frame of a video.

    A sample has `cam_names`, `img_paths`, `stored_hw`, `token` and `frame_id`; of a video also `stored_image`, and the
    name of the video for all frames, with `timestamp` in seconds.

    Raises:
        InputError: there is no such file, or it is neither an image nor a video; a folder without images.
    """
    path = Path(path)
    if path.is_dir():
        files = _images_in(path)
        if not files:
            inner = next((folder for folder in sorted(path.iterdir()) if folder.is_dir() and _images_in(folder)), None)
            hint = f'; {inner} does: give the folders that hold the images themselves' if inner else ''
            raise InputError(f'{path} holds no images: expected {", ".join(IMAGE_SUFFIXES)}{hint}')
        for file in files:
            yield _sample(file, file.stem, image_hw(file))
    elif path.suffix.lower() in _VIDEO_SUFFIXES:
        yield from _frames_of(require_file(path))
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        yield _sample(path, path.stem, image_hw(path))
    else:
        known = ', '.join((*IMAGE_SUFFIXES, *_VIDEO_SUFFIXES))
        raise InputError(f'{path}: expected an image or a video ({known}), or a folder of images')


def _images_in(folder: Path) -> list[Path]:
    # Hidden ones are no images: macOS writes `._NAME.jpg` next to each that it unpacks on other disks.
    files = (file for file in folder.iterdir() if not file.name.startswith('.'))
    return sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)


def _sample(path: Path, name: str, stored_hw: tuple[int, int]) -> dict[str, Any]:
    return {
        'cam_names': ['front'],
        'img_paths': [str(path)],
        'stored_hw': [stored_hw],
        'token': name,
        'frame_id': name,
    }


def _frames_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the frames of a video; one that ends early gives those that decode, and a warning."""
    video = cv2.VideoCapture(str(path))
    try:
        rate = video.get(cv2.CAP_PROP_FPS) or 25.0
        stated = round(video.get(cv2.CAP_PROP_FRAME_COUNT))
        count = 0
        while True:
            read, image = video.read()
            if not read:
                break
            sample = _sample(path, f'{path.stem}_{count:06d}', (image.shape[0], image.shape[1]))
            yield {**sample, 'stored_image': np.ascontiguousarray(image), 'timestamp': count / rate}
            count += 1
    finally:
        video.release()
    if not count:
        raise InputError(f'{path} does not decode as a video: convert it to .mp4 (H.264) and try again')
    # Of some containers the number is computed from the duration, a few frames off.
    if count < 0.9 * stated:
        # A log would go to stdout, where `infer` lists files.
        warnings.warn(
            f'{path}: {count} frames decode, of {stated} by its header: it may be damaged or cut off', stacklevel=2
        )
