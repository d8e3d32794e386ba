"""Measure detectors (size, latency), Fast-BEV, LiDAR detectors and ops next to mmdet3d's, and distillation steps.

The same as `perception3d benchmark`.
"""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.benchmark import main

if __name__ == '__main__':
    run_tool(main)
