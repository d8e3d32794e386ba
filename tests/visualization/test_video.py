"""Videos hold the frames that were written; a failure leaves no half file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception3d.checks import InputError
from perception3d.visualization.palette import class_color
from perception3d.visualization.video import write_video


def frames(number: int, height: int = 60, width: int = 80) -> Iterator[np.ndarray]:
    for index in range(number):
        yield np.full((height, width, 3), (20 * index, 60, 220 - 20 * index), np.uint8)


def read_back(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    rate, found = capture.get(cv2.CAP_PROP_FPS), []
    while (answer := capture.read())[0]:
        found.append(answer[1])
    return found, rate


@pytest.mark.parametrize(('suffix', 'tolerance'), [('.mp4', 8), ('.gif', 1)])
def test_round_trip(tmp_path: Path, suffix: str, tolerance: int):
    path = tmp_path / f'scene{suffix}'
    assert write_video(path, frames(8), fps=5.0) == 8
    found, rate = read_back(path)
    assert len(found) == 8 and rate == pytest.approx(5.0)
    for expected, frame in zip(frames(8), found, strict=True):
        assert frame.shape == expected.shape
        assert np.abs(frame.astype(int) - expected.astype(int)).max() <= tolerance
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_odd_sizes_and_wide_frames(tmp_path: Path):
    write_video(tmp_path / 'odd.mp4', frames(3, 61, 81))
    assert read_back(tmp_path / 'odd.mp4')[0][0].shape == (62, 82, 3)
    write_video(tmp_path / 'wide.gif', frames(3, 100, 200), max_width_px=50)
    assert read_back(tmp_path / 'wide.gif')[0][0].shape == (25, 50, 3)


def test_gif_keeps_the_colours_that_mean_something(tmp_path: Path):
    names = ['car', 'bus', 'bicycle', 'motorcycle', 'pedestrian', 'traffic_cone']
    rng = np.random.default_rng(0)
    frame = rng.integers(60, 200, (200, 300, 1), np.uint8) + rng.integers(0, 40, (200, 300, 3), np.uint8)
    for row, name in enumerate(names):
        frame[20 * row : 20 * row + 2, :40] = class_color(name)
    write_video(tmp_path / 'colours.gif', [frame, frame[:, ::-1]])
    found = read_back(tmp_path / 'colours.gif')[0][0]
    for row, name in enumerate(names):
        np.testing.assert_allclose(found[20 * row, 20], class_color(name), atol=4, err_msg=name)


def test_mistakes_are_named_and_leave_nothing(tmp_path: Path):
    with pytest.raises(InputError, match='ends in .mp4 or .gif'):
        write_video(tmp_path / 'scene.avi', frames(2))
    with pytest.raises(InputError, match='no frame'):
        write_video(tmp_path / 'scene.mp4', [])
    with pytest.raises(InputError, match='above 0'):
        write_video(tmp_path / 'scene.mp4', frames(2), fps=0)
    for suffix in ('.mp4', '.gif'):
        (tmp_path / f'old{suffix}').write_text('an earlier video')
        with pytest.raises(InputError, match='frame 2 is'):
            write_video(tmp_path / f'old{suffix}', [*frames(2), *frames(1, 30, 30)])
        assert (tmp_path / f'old{suffix}').read_text() == 'an earlier video'
    assert len(list(tmp_path.iterdir())) == 2
