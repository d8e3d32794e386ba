"""Info files and ground-truth database from LiDAR-only data of your own: points/, labels/, ImageSets/; no images.

points/NAME.npy (N x F floats) or points/NAME.bin (raw float32), labels/NAME.txt with a line
`x y z dx dy dz heading class` for each box, (x, y, z) its middle, as in OpenPCDet; data/README.md has the details.
"""

from __future__ import annotations

import argparse

EXAMPLE = 'python tools/create_data.py lidar --root data/mine --classes Car Pedestrian'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the tree: ImageSets/, points/, labels/')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='classes to keep (default: all that occur)')
    parser.add_argument(
        '--features', type=int, default=4, metavar='F', help='floats a point: x y z and more (default: 4)'
    )
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many frames)')


def run(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.frame_building import print_summary
    from perception3d.datasets.point_boxes_info import create_infos

    print_summary(create_infos(args.root, args.classes, args.features, args.jobs), args.root)
