"""SemanticKITTI: `sequences/00/velodyne`, `labels`, `calib.txt`, `poses.txt`, `times.txt`."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format, simulate_command
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files from a SemanticKITTI tree: sequences/XX/velodyne, labels, calib.txt, poses.txt.

Splits are those of the benchmark: train 00-07, 09, 10; val 08; trainval; test 11-21. Sequences may be missing. Every
label file is read: its number of labels and its ids are checked, and its points are counted by class.
"""

_EVALUATE = """SemanticKITTI: IoU of 19 classes (25 with --multi-scan), also by distance, and panoptic quality.

The rules, and every bit of the scores, are those of the official tools, semantic-kitti-api.

GT is the tree with sequences/XX/labels (with --by-distance also velodyne), PRED a folder with sequences/XX/predictions:
one .label file a scan with the benchmark's ids, such as 10 for car. A class that occurs nowhere has IoU 0 and counts in
the mean. Points that are predicted as no class are missed. --panoptic takes the objects in the upper 16 bits of the
predictions as they are; no model of this package predicts objects. Scores are in 0..1.
"""

_SIMULATE = """Sequences of the built-in world in the format of SemanticKITTI: scans, labels, poses and times."""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the folder that holds sequences/')
    parser.add_argument(
        '--multi-scan',
        action='store_true',
        help='require the poses of every sequence (default: they are read where they are)',
    )
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many scans)')


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.frame_building import print_point_summary
    from perception3d.formats.semantickitti.info import create_infos

    print_point_summary(create_infos(args.root, args.multi_scan, args.jobs))


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    parser.add_argument('--by-distance', action='store_true', help='also in rings of 10 m around the sensor, to 50 m')
    parser.add_argument('--panoptic', action='store_true', help='also panoptic quality (PQ, SQ, RQ, PQ dagger)')
    parser.add_argument(
        '--multi-scan',
        action='store_true',
        help='25 classes; predictions may go on with the points of earlier scans, which do not count',
    )
    parser.add_argument('--sequences', nargs='+', default=[], metavar='XX', help='such as 08 (default: all in PRED)')


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print."""
    from perception3d.formats.semantickitti.evaluation.folders import EvaluationOptions, evaluate_folders

    options = EvaluationOptions(args.by_distance, args.panoptic, args.multi_scan, args.sequences)
    return evaluate_folders(args.gt, args.pred, options)


FORMAT = Format(
    'semantickitti',
    create_data=Command(
        _CREATE_DATA,
        'python tools/create_data.py semantickitti --root data/semantickitti',
        _add_create_data,
        _create_data,
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py semantickitti --gt data/semantickitti --pred results --out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
    simulate=simulate_command(
        _SIMULATE,
        'python tools/simulate.py semantickitti --out data/sim_semantickitti --profile points',
        'perception3d.formats.semantickitti.simulate',
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
