"""Clouds of your own with a label for each point: `classes.json`, `ImageSets/`, `points/`, `labels/`."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files from clouds of your own with a label for each point.

The tree has classes.json with names and ids, ImageSets/, points/NAME.bin (raw float32) or points/NAME.npy (N x F
floats), and labels/NAME.label (uint32 a point: lower 16 bits the class, upper 16 the object, as in SemanticKITTI);
data/README.md has the details.
"""

_EVALUATE = """Labelled clouds of your own: IoU of points, also by distance, and panoptic quality.

GT and PRED are folders of <frame>.label; the frames that have a file in PRED are scored. A note says how many labelled
frames have none. The rules are SemanticKITTI's: a class that occurs nowhere has IoU 0 and counts in the mean. Scores
are in 0..1.
"""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument(
        '--root', required=True, metavar='DIR', help='the tree: classes.json, ImageSets/, points/, labels/'
    )
    _add_features(parser)
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many frames)')


def _add_features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--features', type=int, default=4, metavar='F', help='floats a point: x y z and more (default: 4)'
    )


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.frame_building import print_point_summary
    from perception3d.formats.custom_points.info import create_infos

    print_point_summary(create_infos(args.root, args.features, args.jobs))


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    parser.add_argument('--classes', metavar='FILE', help='names and ids (default: classes.json next to GT)')
    parser.add_argument('--by-distance', action='store_true', help='also in rings of 10 m around the sensor, to 50 m')
    parser.add_argument('--points', metavar='DIR', help='the clouds for --by-distance (default: points/ next to GT)')
    _add_features(parser)
    parser.add_argument('--panoptic', action='store_true', help='also panoptic quality; "things" of the classes file')


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print."""
    from perception3d.formats.custom_points.evaluation.folders import EvaluationOptions, evaluate_folders

    options = EvaluationOptions(args.classes, args.by_distance, args.points, args.features, args.panoptic)
    return evaluate_folders(args.gt, args.pred, options)


FORMAT = Format(
    'custom-points',
    create_data=Command(
        _CREATE_DATA,
        'python tools/create_data.py custom-points --root data/custom_points',
        _add_create_data,
        _create_data,
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py custom-points --gt data/custom_points/labels --pred results --out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
