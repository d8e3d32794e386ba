"""Errors that name what to do, and files that are whole or absent."""

from __future__ import annotations

import json
import os
import pickle
import warnings

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from perception3d import files
from perception3d.apis.cli import run_tool
from perception3d.checks import (
    InputError,
    is_number,
    is_whole,
    nearest_names,
    require_file,
    require_folder,
    unknown_name,
)
from perception3d.datasets.lane_lists import read_list


def test_nearest_names_prefers_resemblance_and_finds_a_moved_leaf():
    keys = ['model.backbone.depth', 'model.neck.out', 'train_cfg.max_epochs']
    assert nearest_names('model.backbone.dept', keys)[0] == 'model.backbone.depth'
    assert nearest_names('max_epochs', keys) == ['train_cfg.max_epochs']


def test_unknown_name_lists_choices_when_nothing_is_near():
    assert 'culane' in str(unknown_name('format', 'zzz', ['culane', 'kitti']))
    assert "did you mean 'kitti'" in str(unknown_name('format', 'kiti', ['culane', 'kitti']))


@pytest.mark.parametrize(
    ('text', 'number', 'whole'),
    [
        ('3', True, True), ('-2.0', True, True), ('2.5', True, False), ('NaN', False, False),
        ('-Infinity', False, False), ('true', False, False), ('null', False, False), ('"4"', False, False),
        ('1' + 400 * '0', False, False), ('1e300', True, False), (str(2**63), True, False),
        (str(2**63 - 1), True, True), (str(-(2**63)), True, True), (str(-(2**63) - 1), True, False),
    ],
)  # fmt: skip
def test_numbers_of_json_files_fit_where_they_are_stored(text, number, whole):
    value = json.loads(text)
    assert (is_number(value), is_whole(value)) == (number, whole)


def test_an_error_is_one_line():
    assert str(InputError('first\nsecond   third')) == 'first second third'


class BrokenFrames(Dataset):
    """Its frame cannot be read, as in a damaged file."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise OSError('cut off')
        except OSError as error:
            raise InputError('cloud.bin is cut off: copy it again') from error


def test_an_error_in_a_loaders_worker_stays_one_line():
    with pytest.raises(InputError) as caught:
        next(iter(DataLoader(BrokenFrames(), num_workers=1)))
    assert str(caught.value) == 'cloud.bin is cut off: copy it again'


def test_requirements_say_what_is_there_instead(tmp_path):
    with pytest.raises(InputError, match='is a folder, not a file: do this'):
        require_file(tmp_path, 'do this')
    (tmp_path / 'x').write_text('')
    with pytest.raises(InputError, match='is a file, not a folder'):
        require_folder(tmp_path / 'x')
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(InputError, match='pipe is no regular file: do this'):
        require_file(tmp_path / 'pipe', 'do this')


def test_texts_of_windows_are_read(tmp_path):
    mark = b'\xef\xbb\xbf'
    (tmp_path / 'a.json').write_bytes(mark + b'[1]\r\n[2]\r\n')
    assert [content for _, content in files.read_json_lines(tmp_path / 'a.json')] == [[1], [2]]
    (tmp_path / 'a.json').write_bytes(mark + b'{"a": 1}\r\n')
    assert files.read_json(tmp_path / 'a.json') == {'a': 1}
    (tmp_path / 'a.txt').write_bytes(mark + b'/a/b.jpg\r\n\r\n/a/c.jpg\r\n')
    assert read_list(tmp_path / 'a.txt') == ['a/b', 'a/c']


def test_a_warning_of_ours_is_one_line_in_a_command(capsys, monkeypatch):
    monkeypatch.setattr(warnings, 'formatwarning', warnings.formatwarning)

    def warn(_):
        for place in (files.__file__, json.__file__):
            print(warnings.formatwarning('drive.mp4 is cut off', UserWarning, place, 1), end='')

    with pytest.raises(SystemExit):
        run_tool(warn)
    ours, other = capsys.readouterr().out.split('\n', 1)
    assert ours == 'warning: drive.mp4 is cut off' and json.__file__ in other


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / 'a.json'
    files.write_json(target, {'old': 1})
    with pytest.raises(RuntimeError), files.write_whole(target) as temporary:
        temporary.write_text('half')
        raise RuntimeError
    assert files.read_json(target) == {'old': 1}
    assert os.listdir(tmp_path) == ['a.json']


def test_image_round_trip_and_damage(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    files.write_image(tmp_path / 'a.png', image)
    np.testing.assert_array_equal(files.read_image(tmp_path / 'a.png'), image)
    (tmp_path / 'b.jpg').write_bytes(b'\xff\xd8 not a picture')
    with pytest.raises(InputError, match='b.jpg does not decode'):
        files.read_image(tmp_path / 'b.jpg')
    (tmp_path / 'c.jpg').write_bytes(b'')
    with pytest.raises(InputError, match='c.jpg does not decode'):
        files.read_image(tmp_path / 'c.jpg')


def test_points_of_a_truncated_file_are_refused(tmp_path):
    np.arange(10, dtype=np.float32).tofile(tmp_path / 'a.bin')
    assert files.read_points(tmp_path / 'a.bin', 5).shape == (2, 5)
    np.arange(11, dtype=np.float32).tofile(tmp_path / 'a.bin')
    with pytest.raises(InputError, match='a.bin is truncated'):
        files.read_points(tmp_path / 'a.bin', 5)


class _RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_data_pickle_never_runs_code(tmp_path):
    files.write_pickle(tmp_path / 'good.pkl', {'a': np.ones(3), 'b': [np.float64(2)]})
    assert files.read_pickle(tmp_path / 'good.pkl')['b'] == [2.0]
    with open(tmp_path / 'bad.pkl', 'wb') as file:
        pickle.dump(_RunsCode(tmp_path / 'ran'), file)
    with pytest.raises(InputError, match='bad.pkl was refused'):
        files.read_pickle(tmp_path / 'bad.pkl')
    assert not (tmp_path / 'ran').exists()
    (tmp_path / 'cut.pkl').write_bytes((tmp_path / 'good.pkl').read_bytes()[:20])
    with pytest.raises(InputError, match='cut.pkl is not a readable pickle'):
        files.read_pickle(tmp_path / 'cut.pkl')


def test_json_for_readers_keeps_a_list_of_numbers_on_one_line(tmp_path):
    content = {'box': [1, 2.5, None], 'rows': [[1, 2], [3, 4]], 'words': ['a\nb', '[1,\n 2]'], 'none': []}
    files.write_json(tmp_path / 'a.json', content, indent=1)
    text = (tmp_path / 'a.json').read_text()
    assert json.loads(text) == content
    assert '"box": [1, 2.5, null]' in text and '[3, 4]' in text
