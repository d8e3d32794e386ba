"""LLAMAS: `color_images/SPLIT/RECORDING/NAME_color_rect.png`, `labels/SPLIT/RECORDING/NAME.json` with markers."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files from a LLAMAS tree: color_images/ and labels/ with train, valid and test.

Lanes are l1, l0, r0, r1: lines through the markers of a label, extended to the edge of the image. Masks of them are
drawn when an image is loaded; --marker-masks draws the official segmentation labels, the painted markers alone.
"""

_EVALUATE = """LLAMAS: lanes by CULane's metric on 1276 x 717 pixels, and average precision of the four classes.

GT is a folder of labels, such as labels/valid. PRED holds RECORDING/LABEL.lines.txt, or probabilities
RECORDING/LABEL.json_1.png (l1) to _4.png (r1), or both. Average precision is that of LLAMAS' segmentation tool, in
percent. An image without .lines.txt has no lanes; a missing PNG is an error.
"""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the folder that holds color_images/ and labels/')
    parser.add_argument('--marker-masks', action='store_true', help='draw masks of the painted markers')
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many images)')


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.lane_building import print_lane_summary
    from perception3d.formats.llamas.info import create_infos

    print_lane_summary(create_infos(args.root, args.marker_masks, args.jobs))


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    from perception3d.evaluation.lane_options import add_lane_options

    add_lane_options(parser)


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print."""
    from perception3d.formats.llamas.evaluation.folders import EvaluationOptions, evaluate_folders

    return evaluate_folders(args.gt, args.pred, EvaluationOptions(args.iou, args.width, args.jobs))


FORMAT = Format(
    'llamas',
    create_data=Command(
        _CREATE_DATA, 'python tools/create_data.py llamas --root data/llamas', _add_create_data, _create_data
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py llamas --gt data/llamas/labels/valid --pred results --out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
