"""Train the model of a config: `perception3d train`."""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.train import main

if __name__ == '__main__':
    run_tool(main)
