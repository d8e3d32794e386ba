"""Run the main job on the built-in world: render it, train the tiny Fast-BEV, test it on unseen scenes, draw.

The same as `perception3d demo`.
"""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.demo import main

if __name__ == '__main__':
    run_tool(main)
