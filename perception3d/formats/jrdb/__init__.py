"""JRDB: people around a robot, `pointclouds/`, `labels/`, `calibration/`."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files from a tree of JRDB: pointclouds/, labels/, calibration/.

The tree is train_dataset_with_activity, which gives train and val (the seven sequences that the toolkit suggests), or
test_dataset_without_labels, which gives test. The truth is also written as text files into perception3d_labels/, for
tools/evaluate.py jrdb.
"""

_EVALUATE = """JRDB's AP of people in percent, in space and in the stitched image, as its toolkit computes it.

GT holds SEQUENCE/FRAME.txt, such as perception3d_labels of tools/create_data.py jrdb. PRED holds SEQUENCE/FRAME.txt for
3D, SEQUENCE/image_stitched/FRAME.txt for 2D, or both; an empty file for a frame without detections. IoU 0.3, 0.5, 0.7.
"""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the tree: pointclouds/, labels/, calibration/')


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.frame_building import print_summary
    from perception3d.formats.jrdb.info import create_infos

    print_summary(create_infos(args.root), args.root, uses_image_sets=False)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """This format has no options of its own."""


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print."""
    from perception3d.formats.jrdb.evaluation.folders import evaluate_folders

    return evaluate_folders(args.gt, args.pred)


FORMAT = Format(
    'jrdb',
    create_data=Command(
        _CREATE_DATA, 'python tools/create_data.py jrdb --root data/jrdb', _add_create_data, _create_data
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py jrdb --gt data/jrdb/perception3d_labels --pred results --out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
