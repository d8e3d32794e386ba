"""Info files with history frames from a nuScenes tree: v1.0-mini, -trainval, -test, or tables with a splits.json."""

from __future__ import annotations

import argparse

EXAMPLE = 'python tools/create_data.py nuscenes --root data/nuscenes --version v1.0-trainval'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the tree: samples/, sweeps/, maps/, v1.0-*/')
    parser.add_argument('--version', help='folder of the tables; not needed where there is one')
    parser.add_argument(
        '--offsets',
        nargs='*',
        type=float,
        default=[-0.5, -1.0, -1.5],
        metavar='SECONDS',
        help='history frames relative to the current one (default: -0.5 -1.0 -1.5)',
    )
    parser.add_argument('--sweeps', type=int, default=10, metavar='N', help='LiDAR sweeps to list (default: 10)')
    parser.add_argument(
        '--sensors',
        nargs='+',
        choices=['camera', 'lidar'],
        default=['camera', 'lidar'],
        help='whose files must be there; leave lidar out if you have only the images',
    )


def run(args: argparse.Namespace) -> None:
    """Writes the info files and prints where they are and what they count."""
    from perception3d.datasets.nuscenes_info import CLASSES, InfoSettings, create_infos

    settings = InfoSettings(tuple(args.offsets), args.sweeps, tuple(args.sensors))
    summary = create_infos(args.root, args.version, settings)
    for split, entry in summary.items():
        print(f'{split}: {entry["samples"]} samples of {entry["scenes"]} scenes -> {entry["path"]}')
    width = max(12, *(len(split) + 2 for split in summary))
    print(f'{"boxes":<22}' + ''.join(f'{split:>{width}}' for split in summary))
    for name in CLASSES:
        print(f'{name:<22}' + ''.join(f'{entry["classes"][name]:>{width}}' for entry in summary.values()))
