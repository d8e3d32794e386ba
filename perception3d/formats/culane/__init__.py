"""CULane: `driver_*/VIDEO.MP4/NNNNN.jpg` and `.lines.txt`, masks of four lanes, lists, nine categories of the test."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format, simulate_command
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files from a CULane tree; draws masks and writes train_gt.txt, val_gt.txt where they are missing.

The tree has list/ (train.txt, val.txt, test.txt or train_gt.txt, val_gt.txt, test_split/), driver_*/ with images and
.lines.txt, and where they were unpacked laneseg_label_w16/ with masks. Without masks they are drawn from the
.lines.txt, 16 pixels wide; slots 1 to 4 from the left, 2 and 3 are the borders of the ego lane. Every annotation is
read and checked.
"""

_SIMULATE = (
    """Videos of the built-in world in the format of CULane: lanes, masks, lists, nine categories, and extra/."""
)

_EVALUATE = """CULane: precision, recall and F1 of lanes, in total and by category, as the official tool has them.

GT and PRED are folders below which each image of the lists has its .lines.txt; an image without one has no lanes. The
rules are those of the C++ tool of SCNN, its assignment included: a blank line and a lane of one point count as false
positives, two equal points in a row lose a lane. Precision is -1 where nothing is predicted, recall where nothing is
annotated; F1 is null where the tool prints nan. Rates are in 0..1.
"""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the folder that holds list/ and driver_*/')
    parser.add_argument(
        '--redraw', action='store_true', help='draw all masks and write train_gt.txt and val_gt.txt again'
    )
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many images)')


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.lane_building import print_lane_summary
    from perception3d.formats.culane.info import create_infos

    print_lane_summary(create_infos(args.root, args.redraw, args.jobs))


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    from perception3d.evaluation.lane_options import add_lane_options

    parser.add_argument(
        '--list', metavar='FILE', help='images, one path a line (default: list/test.txt of GT, else all of GT)'
    )
    parser.add_argument(
        '--lists', metavar='DIR', help='folder of the nine lists of categories: they are scored too, and their sum'
    )
    parser.add_argument(
        '--size', nargs=2, type=int, default=[1640, 590], metavar=('W', 'H'), help='of the images (default: 1640 590)'
    )
    add_lane_options(parser)


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print."""
    from perception3d.formats.culane.evaluation.folders import EvaluationOptions, evaluate_folders

    options = EvaluationOptions(args.iou, args.list, args.lists, tuple(args.size), args.width, args.jobs)
    return evaluate_folders(args.gt, args.pred, options)


FORMAT = Format(
    'culane',
    create_data=Command(
        _CREATE_DATA, 'python tools/create_data.py culane --root data/culane', _add_create_data, _create_data
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py culane --gt data/culane --pred results --lists data/culane/list/test_split',
        _add_evaluate,
        _evaluate,
    ),
    simulate=simulate_command(
        _SIMULATE,
        'python tools/simulate.py culane --out data/culane_sim --profile lanes',
        'perception3d.formats.culane.simulate',
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
