"""Fixtures of experiments: `lab`, a folder with fast tools, and `tool`, the command whose cells are forked."""

from __future__ import annotations

import importlib
import runpy

import pytest
from experiment_lab import ROOT, ForkedTool, Lab

from perception3d.experiment import cells


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, 'POLL_S', 0.01)
    return Lab(tmp_path)


@pytest.fixture
def tool(monkeypatch):
    """tools/experiment.py, whose cells are forked."""
    for module in ('perception3d.apis.training', 'perception3d.apis.testing', 'mmdet3d.models'):
        importlib.import_module(module)
    monkeypatch.setattr(cells, 'Popen', ForkedTool)
    monkeypatch.setattr(cells, 'POLL_S', 0.02)
    return runpy.run_path(str(ROOT / 'tools' / 'experiment.py'))['main']
