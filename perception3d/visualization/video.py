"""A sequence of pictures as MP4 or GIF; neither needs a display nor an installed ffmpeg."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from perception3d.checks import InputError
from perception3d.files import raise_if_full, write_whole
from perception3d.visualization.layout import resize

SUFFIXES = ('.mp4', '.gif')


def write_video(
    path: str | Path, frames: Iterable[np.ndarray], fps: float = 4.0, max_width_px: int | None = None
) -> int:
    """Writes frames to `path`, whole or not at all, and returns how many there were.

    Args:
        path: ends in .mp4 (MPEG-4 part 2, plays in common video players) or .gif (256 colours a frame, loops).
        frames: (H, W, 3) uint8 BGR, all of one size; taken one at a time, so that a generator needs little memory.
        fps: frames a second.
        max_width_px: wider frames are scaled down; None takes 1920 for MP4 and 960 for GIF, whose files get large.

    Raises:
        InputError: another suffix, no frame at all, or frames of different sizes.
        OSError: the system refused to write, as on a full disk.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f'{path} is not the name of a video: expected a name that ends in {" or ".join(SUFFIXES)}')
    if not fps > 0:
        raise InputError(f'{fps} frames a second make no video: give a number above 0')
    limit = max_width_px or (1920 if suffix == '.mp4' else 960)
    prepared = _same_size(frames, limit, path)
    with write_whole(path) as temporary:
        if suffix == '.gif':
            return _write_gif(temporary, prepared, fps)
        count = _write_mp4(temporary, prepared, fps)
        _require_whole(temporary, count, path)
        return count


def _same_size(frames: Iterable[np.ndarray], max_width_px: int, path: Path) -> Iterator[np.ndarray]:
    expected = None
    for number, frame in enumerate(frames):
        expected = expected or frame.shape
        if frame.shape != expected:
            raise InputError(f'{path}: frame {number} is {frame.shape}, the first one {expected}: give one size')
        yield resize(frame, max_width_px / frame.shape[1]) if frame.shape[1] > max_width_px else frame
    if expected is None:
        raise InputError(f'{path}: there is no frame to write')


def _write_mp4(path: Path, frames: Iterator[np.ndarray], fps: float) -> int:
    writer, count = None, 0
    try:
        for frame in frames:
            # The codec halves the colour planes: odd sizes are padded by one repeated row or column.
            frame = cv2.copyMakeBorder(frame, 0, frame.shape[0] % 2, 0, frame.shape[1] % 2, cv2.BORDER_REPLICATE)
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), fps, size)
                if not writer.isOpened():
                    raise InputError(
                        f'this OpenCV cannot write {path.suffix}: use .gif, or install opencv-python-headless'
                    )
            writer.write(frame)
            count += 1
    finally:
        if writer is not None:
            writer.release()
    return count


def _require_whole(temporary: Path, count: int, path: Path) -> None:
    """OpenCV writes on in silence where the disk is full; the index of the frames, which comes last, is lost then."""
    reader = cv2.VideoCapture(str(temporary))
    readable = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
    reader.release()
    if readable != count:
        raise_if_full(path)
        raise InputError(f'{path}: only {readable} of {count} frames could be written: check the disk, or use .gif')


def _write_gif(path: Path, frames: Iterator[np.ndarray], fps: float) -> int:
    pictures = [_with_few_colors(np.ascontiguousarray(frame[..., ::-1])) for frame in frames]
    duration_ms = max(20, round(1000 / fps))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration_ms, loop=0)
    return len(pictures)


def _with_few_colors(frame_rgb: np.ndarray) -> Image.Image:
    """Returns the frame with 256 colours: 192 chosen by Pillow, and the 64 saturated ones that it uses most.

    Pillow alone would choose mostly greys of streets and clouds, and thin lines would lose the colours of classes.
    """
    picture = Image.fromarray(frame_rgb)
    suited = (picture.quantize(192).getpalette() or [])[: 3 * 192]
    vivid = frame_rgb[np.ptp(frame_rgb, axis=2) > 60].astype(np.int64)
    codes, counts = np.unique(vivid @ [65536, 256, 1], return_counts=True)
    most_used = codes[np.argsort(-counts, kind='stable')[: (768 - len(suited)) // 3]]
    palette = Image.new('P', (1, 1))
    palette.putpalette(
        [*suited, *np.stack([most_used >> 16, most_used >> 8 & 255, most_used & 255], 1).ravel().tolist()]
    )
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)
