"""JRDB's text files: what is written is read again, the columns of the toolkit, and lines that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perception3d.checks import InputError
from perception3d.formats.jrdb.files import (
    boxes_of,
    frame_of_boxes,
    read_frame,
    require_result_file,
    write_frame,
)
from perception3d.formats.kitti.files import boxes_lidar_from_camera

# As the toolkit writes a person at (8, -2, -0.1) with l 0.9, w 0.5, h 1.7, yaw 0.4, and one with a 2D box alone.
LINES = """Pedestrian 0 1 120 0.25 10.0 20.0 30.0 60.0 1.7 0.9 0.5 2.0 0.95 8.0 -0.4 1
Pedestrian 1 3 -1 -1 100 20 130 90 -1 -1 -1 -1 -1 -1 -1 1
Cyclist 0 0 50 0 1 2 3 4 1.5 1 1 1 1 5 0 1
"""


def test_lines_of_the_toolkit_are_boxes_in_the_frame_of_the_robot(tmp_path: Path):
    path = tmp_path / '000000.txt'
    path.write_text(LINES + '\n')
    frame = read_frame(path)
    assert frame.num_points.tolist() == [120, -1, 50] and frame.objects.occluded.tolist() == [1, 3, 0]
    np.testing.assert_allclose(boxes_of(frame.objects)[0], [8, -2, -0.95, 0.9, 0.5, 1.7, 0.4])
    # KITTI's own reading of the columns is the same rectangle, with the sides exchanged.
    robot_from_cam = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    kitti = boxes_lidar_from_camera(frame.objects, robot_from_cam)[0]
    np.testing.assert_allclose(kitti, [8, -2, -0.95, 0.5, 0.9, 1.7, 0.4 - np.pi / 2])
    write_frame(tmp_path / 'again.txt', frame)
    again = read_frame(tmp_path / 'again.txt')
    for key, value in vars(frame.objects).items():
        np.testing.assert_array_equal(getattr(again.objects, key), value)
    assert (tmp_path / 'again.txt').read_text().splitlines()[1].startswith('Pedestrian 1 3 -1 -1 100.0')


def test_predictions_are_written_and_read(tmp_path: Path):
    boxes = np.array([[5, 1, -0.8, 0.9, 0.5, 1.7, 2.9], [3, -4, -0.9, 0.8, 0.6, 1.6, -1.0]])
    write_frame(tmp_path / 'a' / '000001.txt', frame_of_boxes(boxes, np.array([0.9, 0.123456789]), np.array([50, 60])))
    found = read_frame(tmp_path / 'a' / '000001.txt')
    np.testing.assert_allclose(boxes_of(found.objects), boxes, atol=1e-6)
    assert found.objects.scores.tolist() == [0.9, 0.123456789] and found.num_points.tolist() == [50, 60]
    assert (found.objects.boxes_2d == -1).all() and set(found.objects.names) == {'Pedestrian'}
    write_frame(tmp_path / 'empty.txt', frame_of_boxes(np.zeros((0, 7))))
    assert len(read_frame(tmp_path / 'empty.txt')) == 0
    require_result_file(tmp_path / 'empty.txt')


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('Pedestrian 0 1 120 0.25', r'line 2: 5 columns, a line of JRDB has 17'),
        ('Pedestrian 0 1 12 0 1 2 3 4 1.7 .9 .5 2 1 8 north 1', r"line 2: 'north' is not a number"),
        ('Pedestrian 0 1 12 0 1 2 3 4 1.7 .9 .5 2 1 8 nan 1', r'line 2: nan is not finite'),
    ],
)
def test_lines_that_cannot_be_used_are_named(tmp_path: Path, line: str, message: str):
    path = tmp_path / '000000.txt'
    path.write_text(LINES.splitlines()[0] + '\n' + line)
    with pytest.raises(InputError, match=message):
        read_frame(path)
    with pytest.raises(InputError, match='would be lost'):
        require_result_file(path)
