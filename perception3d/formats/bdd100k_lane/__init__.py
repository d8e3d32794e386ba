"""BDD100K lanes: `images/100k`, `labels/lane/polygons` (poly2d JSON), `labels/lane/masks` (PNGs of label bytes)."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format

_EVALUATE = """BDD100K lanes: the official table of F-scores at 1, 2 and 5 pixels, and pixel accuracy and IoU.

GT and PRED are folders of PNGs whose bytes are direction, style and category of a marking, as in labels/lane/masks of
BDD100K; a prediction has the name of its label. The table is that of the official tool to the last bit: means over
images, 16 rows, percent. An image without a prediction counts as an image of zeros, which is a crosswalk everywhere.
--pixel adds accuracy (a recall) and IoU of lane pixels as in the SAD paper, in 0..1. --binary reads masks of lane (any
value) and background (0), such as those of create_data and of the models here, and gives the pixel scores alone.
"""


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    parser.add_argument('--pixel', action='store_true', help='also accuracy and IoU of lane pixels (SAD paper)')
    parser.add_argument(
        '--binary', action='store_true', help='files are masks, 0 for background, and have pixel scores alone'
    )
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many images)')


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print."""
    from perception3d.formats.bdd100k_lane.evaluation.folders import EvaluationOptions, evaluate_folders

    return evaluate_folders(args.gt, args.pred, EvaluationOptions(args.pixel, args.binary, args.jobs))


FORMAT = Format(
    'bdd100k-lane',
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py bdd100k-lane --gt data/bdd100k/labels/lane/masks/val --pred results '
        '--out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
)
