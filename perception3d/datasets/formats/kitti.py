"""Info files and ground-truth database from a KITTI object tree: ImageSets/, training/, testing/."""

from __future__ import annotations

import argparse

EXAMPLE = 'python tools/create_data.py kitti --root data/kitti'


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


def run(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.frame_building import print_summary
    from perception3d.datasets.kitti_info import InfoSettings, create_infos

    width, height = args.image_size
    settings = InfoSettings(tuple(args.sensors), (height, width))
    if 'camera' not in settings.sensors:
        print(f'images are not read: every one counts as {width} x {height} pixels')
    print_summary(create_infos(args.root, settings, args.jobs), args.root)
