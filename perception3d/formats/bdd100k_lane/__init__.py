"""BDD100K lanes: `images/100k`, `labels/lane/polygons` (poly2d JSON), `labels/lane/masks` (PNGs of label bytes)."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files from a BDD100K tree, with one line for each marking, masks and lists as in the SAD paper.

The tree has images/100k/{train,val,test}/NAME.jpg and, of train and val, labels/lane/polygons/lane_train.json and so on
(or the JSON files of 2018: labels/bdd100k_labels_images_train.json, labels/100k/train/NAME.json). The two annotated
borders of a marking become one line in their middle. Masks are 1 on lanes, 8 pixels wide in train and 2 in val, and lie
in perception3d_lane_masks/, lists of images and masks in perception3d_lane_lists/. Markings across the road and
crosswalks are left out.
"""

_EVALUATE = """BDD100K lanes: the official table of F-scores at 1, 2 and 5 pixels, and pixel accuracy and IoU.

GT and PRED are folders of PNGs whose bytes are direction, style and category of a marking, as in labels/lane/masks of
BDD100K; a prediction has the name of its label. The table is that of the official tool to the last bit: means over
images, 16 rows, percent. An image without a prediction counts as an image of zeros, which is a crosswalk everywhere.
--pixel adds accuracy (a recall) and IoU of lane pixels as in the SAD paper, in 0..1. --binary reads masks of lane (any
value) and background (0), such as those of create_data and of the models here, and gives the pixel scores alone.
"""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the folder that holds images/100k and labels')
    parser.add_argument(
        '--all-markings', action='store_true', help='markings across the road and crosswalks are lanes as well'
    )
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many images)')


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.lane_building import print_lane_summary
    from perception3d.formats.bdd100k_lane.info import create_infos

    print_lane_summary(create_infos(args.root, args.all_markings, args.jobs))


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
    create_data=Command(
        _CREATE_DATA, 'python tools/create_data.py bdd100k-lane --root data/bdd100k', _add_create_data, _create_data
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py bdd100k-lane --gt data/bdd100k/labels/lane/masks/val --pred results '
        '--out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
