"""Write info files from a data set on disk, after checking it: `perception3d create_data`."""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.create_data import main

if __name__ == '__main__':
    run_tool(main)
