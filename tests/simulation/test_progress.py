"""Long work shows its progress and the remaining time."""

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
    first, *_, last = terminal.getvalue().removeprefix('\r').split('\r')
    assert first.startswith('scenes:   0%|') and '| 0/3 [' in first
    assert last.startswith('scenes: 100%|') and '| 3/3 [' in last and last.endswith('\n')
    # The bar alone, no lines of a log.
    assert terminal.getvalue().count('\n') == 1
