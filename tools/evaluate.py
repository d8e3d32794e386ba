"""Score result files against ground truth: no model, no config: `perception3d evaluate`."""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.evaluate import main

if __name__ == '__main__':
    run_tool(main)
