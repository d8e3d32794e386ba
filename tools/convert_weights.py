"""Convert ImageNet, nuImages, released Fast-BEV or Cylinder3D weights into a checkpoint for one of our configs.

The same as `perception3d convert_weights`.
"""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.convert_weights import main

if __name__ == '__main__':
    run_tool(main)
