"""test --html: one file with pictures, counts and metrics that loads nothing; a browser shows it."""

from __future__ import annotations

import base64
import copy
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from walking_people import write_people

from perception3d.apis.config import load_config
from perception3d.apis.testing import test as run_test
from perception3d.checks import InputError
from perception3d.engine.report_hook import HtmlReportHook
from perception3d.files import read_image
from perception3d.visualization.html_report import ReportFrame, encode_picture, report_page, write_report


class Page(HTMLParser):
    """The texts of a page by their tags, and all that it names elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.loads: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        (data,) = (part for part in self.texts['script'] if part.startswith('['))
        self.scenes = json.loads(data)

    def handle_starttag(self, tag, attributes):
        self._open.append(tag)
        self.loads += [value for name, value in attributes if name in ('src', 'href', 'data', 'action')]

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, text):
        self.texts.setdefault(self._open[-1] if self._open else '', []).append(text)


def picture(value: int = 40, noise: bool = False) -> np.ndarray:
    made = np.full((90, 1600, 3), value, np.uint8)
    made[30:60, 100:300] = (60, 70, 255)
    return np.random.default_rng(0).integers(0, 255, (400, 1600, 3), np.uint8) if noise else made


@pytest.fixture(scope='module')
def tested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test of two scenes with a tracker, with its report and its pictures."""
    folder = tmp_path_factory.mktemp('report')
    config = load_config(write_people(folder))
    settings = dict(work_dir=str(folder / 'w'), show_dir=str(folder / 'shown'), html=str(folder / 'report.html'))
    run_test(copy.deepcopy(config), folder / 'weights.pth', **settings)
    return folder


def test_a_report_has_all_frames_with_truth_predictions_tracks_and_metrics(tested: Path):
    page = Page((tested / 'report.html').read_text())
    assert page.texts['title'] == page.texts['h1'] == ['config'] and page.loads == []
    assert [scene['name'] for scene in page.scenes] == page.texts['option'] == ['012', '013']
    frames = [frame for scene in page.scenes for frame in scene['frames']]
    assert [frame['token'] for frame in frames[::5]] == ['012_000000', '013_000001']
    assert frames[1]['time'] == pytest.approx(1000.4)
    words = ('ground truth boxes', 'predicted boxes', 'predicted tracks')
    assert [[frame['counts'][word] for word in words] for frame in frames] == [
        [3, 3, 0], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 0], [3, 3, 3], [3, 3, 3], [2, 2, 2],
    ]  # fmt: skip
    cells = page.texts['td']
    assert cells == ['tracked', '2.125']
    files = sorted((tested / 'shown').glob('*.png'))
    for frame, file in zip(frames, files, strict=True):
        kind, _, data = frame['picture'].partition(';base64,')
        assert kind == 'data:image/png'
        shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        stored = read_image(file)
        expected = cv2.resize(stored, (1280, round(len(stored) * 1280 / 1920)), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(shown, expected)


def test_nothing_of_the_data_can_leave_its_place_in_the_page(tmp_path: Path):
    evil = '</script><img src="http://x.y/z">'
    frames = [ReportFrame(evil, evil, encode_picture(picture()), None, {evil: 1})]
    text = report_page(evil, frames, {evil: 0.5, 'none': float('nan')})
    page = Page(text)
    assert page.loads == [] and page.texts['option'] == [evil]
    assert page.scenes[0]['frames'][0]['token'] == evil and page.scenes[0]['frames'][0]['time'] is None
    assert page.texts['td'] == [evil, '0.5', 'none', '-']
    assert "content=\"default-src 'none'; img-src data:; " in text
    assert Page(report_page('a', frames, {})).texts['p'][-2:] == ['No metrics.', 'The slider needs JavaScript.']


def test_large_pictures_are_jpeg_and_bad_names_are_refused(tmp_path: Path):
    assert encode_picture(picture()).startswith(b'\x89PNG')
    assert encode_picture(picture(noise=True)).startswith(b'\xff\xd8')
    for make in (lambda: HtmlReportHook('report.txt'), lambda: write_report(tmp_path / 'a.pdf', '', [], {})):
        with pytest.raises(InputError, match='expected a name that ends in .html'):
            make()
    with pytest.raises(InputError, match='there is no frame to show'):
        write_report(tmp_path / 'a.html', '', [], {})


def test_a_browser_shows_the_report(tested: Path, tmp_path: Path):
    chromium = shutil.which('chromium')
    if chromium is None:
        pytest.skip("no program 'chromium' (Debian's package chromium) to show the page")
    common = [chromium, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}']
    address = (tested / 'report.html').as_uri()
    dom = subprocess.run([*common, '--dump-dom', address], capture_output=True, text=True, timeout=120, check=True)
    assert 'data-ready="2"' in dom.stdout and 'frame 1 of 4, 012_000000, 1000.000 s' in dom.stdout
    assert len(re.findall('<polyline [^>]*stroke="#[0-9a-f]{6}"', dom.stdout)) == 3
    shot = tmp_path / 'shot.png'
    subprocess.run([*common, f'--screenshot={shot}', '--window-size=1300,1100', address], timeout=120, check=True)
    assert read_image(shot).std() > 10
