"""KITTI object benchmark: `ImageSets/`, `training/`, `testing/`.

As of every format, what it registers and the readers and writers of its files are names of this package:

>>> from perception3d.formats.kitti import KittiFrameDataset, KittiFrameMetric
>>> from perception3d.formats import kitti
>>> [name for name in dir(kitti) if name.startswith('read_')]
['read_calibration', 'read_objects']
"""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format, simulate_command
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files and ground-truth database from a KITTI object tree: ImageSets/, training/, testing/."""

_SIMULATE = """Single frames of the built-in world in the format of KITTI's object benchmark."""

_EVALUATE = """KITTI object benchmark: 2D, AOS, BEV and 3D AP of a folder of result files, by the official rules,
on the CPU.

GT and PRED are folders of <frame>.txt in the benchmark's formats; the frames that have a file in PRED are scored, so a
frame without detections needs an empty file. A note says how many label files have none. AP is in percent, at 11 and
at 40 recall points.
"""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the tree: ImageSets/, training/, testing/')
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many frames)')
    parser.add_argument(
        '--sensors',
        nargs='+',
        choices=['camera', 'lidar'],
        default=['camera', 'lidar'],
        help='whose files must be there; leave camera out if you have no images',
    )
    parser.add_argument(
        '--image-size',
        nargs=2,
        type=int,
        default=[1242, 375],
        metavar=('WIDTH', 'HEIGHT'),
        help='size in pixels of all images where --sensors leaves camera out (default: 1242 375)',
    )


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.frame_building import print_summary
    from perception3d.formats.kitti.info import InfoSettings, create_infos

    width, height = args.image_size
    settings = InfoSettings(tuple(args.sensors), (height, width))
    if 'camera' not in settings.sensors:
        print(f'images are not read: every one counts as {width} x {height} pixels')
    print_summary(create_infos(args.root, settings, args.jobs), args.root)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
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


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores by class, metric, difficulty and recall points, and the table to print.

    Where frames are left out, the entry 'notes' of the scores says so.
    """
    from perception3d.evaluation.frame_lists import describe_unscored
    from perception3d.formats.kitti.evaluation.scores import evaluate_folders, table

    result = evaluate_folders(args.gt, args.pred, args.loose, args.above_min_height)
    notes = describe_unscored(result.unscored)
    return {**result.scores, **({'notes': notes} if notes else {})}, table(result)


FORMAT = Format(
    'kitti',
    create_data=Command(
        _CREATE_DATA, 'python tools/create_data.py kitti --root data/kitti', _add_create_data, _create_data
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py kitti --gt data/kitti/training/label_2 --pred results/data --out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
    simulate=simulate_command(
        _SIMULATE,
        'python tools/simulate.py kitti --out data/sim_kitti --profile tiny',
        'perception3d.formats.kitti.simulate',
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
