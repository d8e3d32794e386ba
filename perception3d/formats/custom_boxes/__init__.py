"""LiDAR-only data of your own with boxes: `ImageSets/`, `points/`, `labels/`."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.checks import InputError
from perception3d.formats import Command, Format
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files and ground-truth database from LiDAR-only data of your own: points/, labels/, ImageSets/;
no images.

points/NAME.npy (N x F floats) or points/NAME.bin (raw float32), labels/NAME.txt with a line `x y z dx dy dz heading
class` for each box, (x, y, z) its middle, as in OpenPCDet; data/README.md has the details.
"""

_EVALUATE = """LiDAR-only data: AP in the LiDAR frame by overlap (bird's-eye view, 3D) and by distance of centres,
on the CPU.

GT is an info file of tools/create_data.py custom-boxes or a folder of its label files. PRED is a folder of <frame>.txt
with a line `x y z dx dy dz heading class score` for each box: a label line with a score. The frames that have a file
in PRED are scored, so a frame without detections needs an empty file. A note says how many labelled frames have none.
AP is in percent.
"""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the tree: ImageSets/, points/, labels/')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='classes to keep (default: all that occur)')
    parser.add_argument(
        '--features', type=int, default=4, metavar='F', help='floats a point: x y z and more (default: 4)'
    )
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many frames)')


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.frame_building import print_summary
    from perception3d.formats.custom_boxes.info import create_infos

    print_summary(create_infos(args.root, args.classes, args.features, args.jobs), args.root)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
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


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the flat scores and the table to print."""
    from perception3d.formats.custom_boxes.evaluation.folders import evaluate_files

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


FORMAT = Format(
    'custom-boxes',
    create_data=Command(
        _CREATE_DATA,
        'python tools/create_data.py custom-boxes --root data/custom --classes Car Pedestrian',
        _add_create_data,
        _create_data,
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py custom-boxes --gt data/custom/labels --pred results --out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
    aliases=('lidar',),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
