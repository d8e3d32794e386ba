"""Print a config as it is after all its bases and options: `perception3d print_config`."""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.print_config import main

if __name__ == '__main__':
    run_tool(main)
