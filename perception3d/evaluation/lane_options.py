"""Options of `tools/evaluate.py` that the formats scored by CULane's rule share; without numpy, to start fast."""

from __future__ import annotations

import argparse


def add_lane_options(parser: argparse.ArgumentParser) -> None:
    """Adds --iou, --width and --jobs."""
    parser.add_argument(
        '--iou',
        nargs='+',
        type=float,
        default=[0.5],
        metavar='X',
        help='IoU that a match must exceed; several are counted in one pass (default: 0.5)',
    )
    parser.add_argument(
        '--width', type=int, default=30, metavar='PIXELS', help='how wide lanes are drawn to be compared (default: 30)'
    )
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many images)')
