"""LiDAR-only data: AP in the LiDAR frame by overlap (bird's-eye view, 3D) and by distance of centres, on the CPU.

GT is an info file of tools/create_data.py lidar or a folder of its label files. PRED is a folder of <frame>.txt with a
line `x y z dx dy dz heading class score` for each box: a label line with a score. The frames that have a file in PRED
are scored, so a frame without detections needs an empty file. A note says how many labelled frames have none. AP is in
percent.
"""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.checks import InputError

EXAMPLE = 'python tools/evaluate.py lidar --gt data/mine/perception3d_infos_val.pkl --pred results --out metrics.json'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    parser.add_argument(
        '--iou',
        nargs='+',
        default=['0.5'],
        metavar='X',
        help='overlap that a match must exceed: one number, or CLASS=NUMBER for each class (default: 0.5)',
    )
    parser.add_argument(
        '--ranges',
        nargs='+',
        default=[],
        metavar='LOW-HIGH',
        help='also score ranges in metres on their own, such as 0-30 30-50 50-',
    )
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='classes to score (default: those of GT)')


def evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the flat scores and the table to print."""
    from perception3d.evaluation.lidar_folders import evaluate_files

    ranges = [_range(text) for text in args.ranges]
    return evaluate_files(args.gt, args.pred, _thresholds(args.iou), ranges, args.classes)


def _thresholds(words: list[str]) -> float | dict[str, float]:
    try:
        if len(words) == 1 and '=' not in words[0]:
            return float(words[0])
        return {name: float(number) for name, number in (word.split('=') for word in words)}
    except ValueError:
        raise InputError(f'--iou takes one number, or CLASS=NUMBER for each class, got {" ".join(words)}') from None


def _range(text: str) -> tuple[float, float | None]:
    low, dash, high = text.partition('-')
    try:
        if not dash:
            raise ValueError
        return float(low), float(high) if high else None
    except ValueError:
        raise InputError(f'--ranges takes LOW-HIGH in metres, such as 0-30, or 50- without end, got {text}') from None
