"""Text files of all formats: a byte-order mark is no content, and what only Python takes for a number is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perception3d.checks import InputError, number_of_word
from perception3d.datasets.frame_building import read_splits, require_frame_files
from perception3d.datasets.lane_lists import read_list
from perception3d.formats.custom_boxes.files import read_labels
from perception3d.formats.jrdb.files import read_frame
from perception3d.formats.kitti.files import image_hw, read_calibration, read_objects
from perception3d.formats.semantickitti.poses import read_times
from perception3d.formats.stcrowd.json_values import number_of

PROJECTION = '721.5 0 609.5 44.8 0 721.5 172.8 0.2 0 0 1 0.002'
CALIBRATION = {
    **{f'P{k}': PROJECTION for k in range(4)},
    'R0_rect': '1 0 0 0 1 0 0 0 1',
    'Tr_velo_to_cam': '0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27',
}


def calibration(**changes: str) -> str:
    return ''.join(f'{key}: {value}\n' for key, value in {**CALIBRATION, **changes}.items())


# The readers, a right file of each, and the number in it that is written as 1_3.
READERS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    'kitti label': (read_objects, 'Car 0 0 13 1 1 9 9 1.5 1 3.9 1 1 20 0\n', '13'),
    'kitti calibration': (read_calibration, calibration(), '721.5'),
    'custom boxes': (read_labels, '13 2 3 4 2 1.5 0 Car\n', '13'),
    'jrdb': (read_frame, 'Pedestrian 0 0 99 13 1 1 9 9 1.5 1 3.9 1 1 20 0 1\n', '13'),
    'semantickitti times': (lambda path: read_times(path, 1), '13\n', '13'),
}


@pytest.mark.parametrize('name', READERS)
def test_python_s_own_numbers_are_no_numbers(tmp_path: Path, name: str):
    read, text, number = READERS[name]
    path = tmp_path / 'file.txt'
    path.write_text(text)
    read(path)
    for word in ('1_3', '\u0661\u0663'):
        path.write_text(text.replace(number, word, 1), encoding='utf-8')
        with pytest.raises(InputError, match=r'file\.txt'):
            read(path)


@pytest.mark.parametrize('name', READERS)
def test_a_byte_order_mark_is_not_content(tmp_path: Path, name: str):
    read, text, _ = READERS[name]
    plain, marked = tmp_path / 'plain.txt', tmp_path / 'marked.txt'
    plain.write_text(text)
    marked.write_text(text.replace('\n', '\r\n'), encoding='utf-8-sig')
    assert repr(read(plain)) == repr(read(marked))


def test_lists_with_a_byte_order_mark(tmp_path: Path):
    (tmp_path / 'ImageSets').mkdir()
    (tmp_path / 'ImageSets' / 'train.txt').write_text('000001\r\n000002\r\n', encoding='utf-8-sig')
    assert read_splits(tmp_path, r'\d{6}', '000123') == {'train': ['000001', '000002']}
    (tmp_path / 'list.txt').write_text('/a/1.jpg\n', encoding='utf-8-sig')
    assert read_list(tmp_path / 'list.txt') == ['a/1']


@pytest.mark.parametrize('name', READERS)
def test_only_line_ends_end_a_line(tmp_path: Path, name: str):
    """Form feeds and separators of ASCII and Unicode stand inside a line, so that its number is that of an editor."""
    read, text, number = READERS[name]
    path = tmp_path / 'file.txt'
    for end in ('\n', '\r\n', '\r'):
        path.write_bytes((' \x0c\x1c \n' + text).replace('\n', end).encode())
        read(path)
        path.write_bytes((' \x0c\x1c \n' + text.replace(number, 'x', 1)).replace('\n', end).encode())
        with pytest.raises(InputError, match=r'file\.txt, line 2: '):
            read(path)


def test_words_that_are_numbers():
    assert [number_of_word(word) for word in ('1', '-1.5e3', '+.5')] == [1, -1500, 0.5]
    assert np.isnan(number_of_word('nan'))
    for word in ('', 'x', '1_0', '1,5', '0x10'):
        with pytest.raises(ValueError, match='number|float'):
            number_of_word(word)
    with pytest.raises(InputError, match='x is .1_3., expected a finite number'):
        number_of('place', 'x', '1_3')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (calibration() + f'P2: {PROJECTION}\n', 'line 7: a second P2'),
        (calibration(P2=' '.join(['0'] * 12)), 'P2 is no projection of a camera'),
        (calibration(R0_rect=' '.join(['0'] * 9)), 'R0_rect is not a rotation'),
        (calibration(R0_rect='1 0 0 0 1 0 0 0 -1'), 'R0_rect is not a rotation'),
        (calibration(Tr_velo_to_cam='0 0 1 -0.27 -1 0 0 0 0 -2 0 0'), 'Tr_velo_to_cam is not a rotation'),
        (calibration(Tr_velo_to_cam=' '.join(['0'] * 12)), 'Tr_velo_to_cam is not a rotation'),
    ],
)
def test_impossible_calibrations(tmp_path: Path, text: str, words: str):
    path = tmp_path / 'calib.txt'
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_calibration(path)


def test_a_calibration_of_one_camera(tmp_path: Path):
    """Other projections are zeros, and rotations have three digits."""
    path = tmp_path / 'calib.txt'
    zeros = ' '.join(['0'] * 12)
    path.write_text(calibration(P0=zeros, P1=zeros, P3=zeros, R0_rect='0.707 -0.707 0 0.707 0.707 0 0 0 1'))
    assert read_calibration(path).rectification[0, 1] == -0.707


def test_splits_and_files_that_are_something_else(tmp_path: Path):
    """Folders, pipes and links that lead nowhere are no files: nothing waits for them, and no split is left out."""
    (tmp_path / 'ImageSets').mkdir()
    (tmp_path / 'ImageSets' / 'train.txt').write_text('000001\n')
    (tmp_path / 'ImageSets' / 'val.txt').symlink_to('nowhere')
    with pytest.raises(InputError, match=r'val\.txt does not exist'):
        read_splits(tmp_path, r'\d{6}', '000123')
    (tmp_path / 'ImageSets' / 'val.txt').unlink()
    (tmp_path / 'ImageSets' / 'val.txt').mkdir()
    with pytest.raises(InputError, match=r'val\.txt is a folder, not a file'):
        read_splits(tmp_path, r'\d{6}', '000123')

    folder = tmp_path / 'image_2'
    folder.mkdir()
    os.mkfifo(folder / 'pipe.png')
    (folder / 'folder.png').mkdir()
    (folder / 'link.png').symlink_to('nowhere')
    (folder / 'fine.png').write_bytes(b'')
    (folder / 'linked.png').symlink_to('fine.png')
    names = ['pipe.png', 'folder.png', 'link.png', 'fine.png', 'linked.png']
    with pytest.raises(InputError, match=r'3 of 5 files .*3 in image_2 \(pipe.png, folder.png, link.png\)'):
        require_frame_files(tmp_path, {'image_2': names})


def test_a_png_header_with_a_wrong_checksum(tmp_path: Path):
    import cv2

    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8))
    assert image_hw(path) == (4, 6)
    content = bytearray(path.read_bytes())
    content[19] = 9  # the width
    path.write_bytes(content)
    with pytest.raises(InputError, match='is not a PNG image'):
        image_hw(path)
