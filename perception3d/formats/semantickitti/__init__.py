"""SemanticKITTI: `sequences/00/velodyne`, `labels`, `calib.txt`, `poses.txt`, `times.txt`."""

from __future__ import annotations

import argparse

from perception3d.formats import Command, Format

_CREATE_DATA = """Info files from a SemanticKITTI tree: sequences/XX/velodyne, labels, calib.txt, poses.txt.

Splits are those of the benchmark: train 00-07, 09, 10; val 08; trainval; test 11-21. Sequences may be missing. Every
label file is read: its number of labels and its ids are checked, and its points are counted by class.
"""


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


FORMAT = Format(
    'semantickitti',
    create_data=Command(
        _CREATE_DATA,
        'python tools/create_data.py semantickitti --root data/semantickitti',
        _add_create_data,
        _create_data,
    ),
)
