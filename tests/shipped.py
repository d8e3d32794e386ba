"""Finds the shipped configs by their names."""

from __future__ import annotations

from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


def config_path(name: str) -> Path:
    """The file of the shipped config `name`, whose folder its name begins with."""
    (path,) = CONFIGS.glob(f'*/{name}.py')
    return path
