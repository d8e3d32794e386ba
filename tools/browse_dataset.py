"""Look at the data of a config: one picture a sample, a scene as MP4 or GIF, or a 3D window.

The same as `perception3d browse_dataset`.
"""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.browse_dataset import main

if __name__ == '__main__':
    run_tool(main)
