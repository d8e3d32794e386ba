"""A working directory in which a payload would leave its mark."""

from __future__ import annotations

import sys
from pathlib import Path

import payloads
import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; a module `evil_parts` can be imported there. Whatever a test does, no payload may run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'evil_parts.py').write_text(payloads.MODULE)
    (tmp_path / 'evil.py').write_text(payloads.MODULE + 'model = dict(type="A")\n')
    (tmp_path / 'evil_scope').mkdir()
    (tmp_path / 'evil_scope' / '__init__.py').write_text('')
    (tmp_path / 'evil_scope' / 'registry.py').write_text(payloads.MODULE)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith('evil'):
            del sys.modules[name]
    assert not (tmp_path / payloads.MARK).exists(), 'the payload ran'
