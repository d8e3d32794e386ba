"""tools/create_data.py says how far it is and how long it will take."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from perception3d.datasets.frame_building import map_frames

# What tqdm shows at the end of a task: name, share, count, time taken and time left.
DONE = r'{}: 100%\|[^|]*\| {n}/{n} \[\d+:\d\d<00:00'


def test_frames_are_counted_with_the_time_left(capsys: pytest.CaptureFixture) -> None:
    assert map_frames(str, range(3), jobs=1, task='cutting out objects') == ['0', '1', '2']
    assert re.search(DONE.format('cutting out objects', n=3), capsys.readouterr().err)
    map_frames(str, range(3), jobs=1, progress=False)
    assert capsys.readouterr().err == ''


def test_create_data_shows_both_its_tasks(nuscenes_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from tools import create_data

    root = tmp_path / 'nuscenes'
    shutil.copytree(nuscenes_tree, root)
    assert create_data.main(['nuscenes', '--root', str(root)]) == 0
    shown = capsys.readouterr().err
    for task in ('checking files', 'building infos'):
        assert re.search(DONE.format(task, n=2), shown), task
