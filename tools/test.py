"""Evaluate a checkpoint: metrics, pictures, submission files: `perception3d test`."""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.test import main

if __name__ == '__main__':
    run_tool(main)
