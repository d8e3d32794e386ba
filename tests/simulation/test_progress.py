"""Long work says how far it is and how long it will take."""

from __future__ import annotations

import io
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from perception3d.apis import simulate as run
from perception3d.formats.nuscenes.simulate.profiles import PROFILES
from perception3d.simulation.jobs import Request, Writer


@pytest.fixture
def quick_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes that take 10 s each on the clock and no time at all."""
    monkeypatch.setattr(run, '_make', lambda writer, job: {})
    monkeypatch.setattr(run, 'time', SimpleNamespace(perf_counter=itertools.count(0, 10).__next__))


def _simulate(folder: Path, scenes: int) -> None:
    writer = Writer('quick', write_scene=lambda job: {}, finish=lambda request, work, records: None)
    run.simulate(writer, Request(folder / 'data', 0, PROFILES['tiny'], scenes, 0))


@pytest.mark.usefixtures('quick_scenes')
def test_simulate_logs_a_line_for_a_twentieth_of_the_scenes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    _simulate(tmp_path, 40)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert lines[0] == 'scene 2/40  20 s, 380 s left'
    assert lines[9] == 'scene 20/40  200 s, 200 s left'
    assert lines[-1] == 'scene 40/40  400 s, 0 s left'


@pytest.mark.usefixtures('quick_scenes')
def test_simulate_draws_a_bar_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, 'stderr', terminal)
    _simulate(tmp_path, 3)
    first, second, last = terminal.getvalue().removeprefix('\r').split('\r')
    assert first == f'[{"#" * 10}{" " * 20}] scene 1/3  10 s, 20 s left '
    assert second.startswith(f'[{"#" * 20}{" " * 10}] scene 2/3')
    assert last == f'[{"#" * 30}] scene 3/3  30 s, 0 s left \n'
