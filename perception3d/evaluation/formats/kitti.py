"""KITTI object benchmark: 2D, AOS, BEV and 3D AP of a folder of result files, by the official rules, on the CPU.

GT and PRED are folders of <frame>.txt in the benchmark's formats; the frames that have a file in PRED are scored, so a
frame without detections needs an empty file. A note says how many label files have none. AP is in percent, at 11 and at
40 recall points.
"""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLE = 'python tools/evaluate.py kitti --gt data/kitti/training/label_2 --pred results/data --out metrics.json'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    parser.add_argument(
        '--loose',
        action='store_true',
        help='also with BEV and 3D overlaps of 0.5, 0.25, 0.25, as "loose"; not official',
    )
    parser.add_argument(
        '--above-min-height',
        action='store_true',
        help='objects of exactly 40 or 25 pixels do not count, as in newer copies of the kit (default: they do)',
    )


def evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores by class, metric, difficulty and recall points, and the table to print.

    Where frames are left out, the entry 'notes' of the scores says so.
    """
    from perception3d.evaluation.kitti import evaluate_folders, table
    from perception3d.evaluation.kitti_reading import skipped

    result = evaluate_folders(args.gt, args.pred, args.loose, args.above_min_height)
    notes = skipped(result.unscored)
    return {**result.scores, **({'notes': notes} if notes else {})}, table(result)
