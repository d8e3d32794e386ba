"""Images of your own with lanes as polylines: `train.json`, `val.json`, `test.json`, one JSON line an image."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files from images of your own, with lanes in one JSON line an image.

The tree has train.json, val.json or test.json, with lines such as
{"image": "images/a.jpg", "lanes": [[[700.5, 719], [650, 480]], [[120, 719], [430, 470]]]}
and the images, of any sizes. "slots" states which lane is which, -1 for none; without it they are counted from the
middle of the image. "mask" names a PNG; without it masks are drawn when an image is loaded. data/README.md has the
details.
"""


_EVALUATE = """Lanes of your own: precision, recall and F1 by CULane's rule.

GT and PRED are files of JSON lines as create_data reads them; the images that have "lanes" in GT are scored, and one
without a line in PRED has no predicted lanes. Precision is -1 where nothing is predicted, recall where nothing is
annotated; F1 is null where none of the lanes is found. Rates are in 0..1.
"""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the tree: train.json, val.json, .., and images')
    parser.add_argument(
        '--slots', type=int, default=4, metavar='N', help='lanes that the network tells apart (default: 4)'
    )
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many images)')


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.lane_building import print_lane_summary
    from perception3d.formats.custom_lanes.info import create_infos

    print_lane_summary(create_infos(args.root, args.slots, args.jobs))


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    from perception3d.evaluation.lane_options import add_lane_options

    parser.add_argument('--size', nargs=2, type=int, required=True, metavar=('W', 'H'), help='of the images, pixels')
    add_lane_options(parser)


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print."""
    from perception3d.evaluation.lane_f1 import LaneRule
    from perception3d.formats.custom_lanes.evaluation.lane_files import evaluate_lane_files

    rule = LaneRule(tuple(args.size), tuple(args.iou), args.width)
    return evaluate_lane_files(args.gt, args.pred, rule, args.jobs)


FORMAT = Format(
    'custom-lanes',
    create_data=Command(
        _CREATE_DATA,
        'python tools/create_data.py custom-lanes --root data/custom_lanes',
        _add_create_data,
        _create_data,
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py custom-lanes --gt data/custom_lanes/val.json --pred lanes.json --size 1640 590',
        _add_evaluate,
        _evaluate,
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
