"""Make a data set of the built-in world in the format of a real one: `perception3d simulate`."""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.simulate import main

if __name__ == '__main__':
    run_tool(main)
