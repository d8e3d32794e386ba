"""STCrowd: crowds of pedestrians, `anno/`, `pcd/`, `left/`, `split.json`, `camera.json`."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format

_CREATE_DATA = """Info files and ground-truth database from the release of STCrowd: anno/, pcd/, left/, split.json,
camera.json.

People who sit, have fewer than 15 points or stand outside the labelled sector are listed as ignored, with the reason:
they are neither objects nor background. Images may be missing. Which way a yaw turns is not documented: it is found
from the points of elongated boxes, unless --yaw-sign says it.
"""

_SIMULATE = """Crowds of the built-in world in the layout of STCrowd: anno/, pcd/, left/, split.json, camera.json."""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the tree: anno/, pcd/, left/, split.json')
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many frames)')
    parser.add_argument(
        '--yaw-sign',
        choices=['auto', '+1', '-1'],
        default='auto',
        help='+1 if a stored yaw turns from x to y, -1 if from y to x (default: found from the points)',
    )


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.frame_building import print_summary
    from perception3d.formats.stcrowd.info import create_infos

    sign = None if args.yaw_sign == 'auto' else int(args.yaw_sign)
    summary = create_infos(args.root, sign, args.jobs)
    print(summary['yaw_note'])
    print_summary(summary, args.root, uses_image_sets=False)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    from perception3d.formats.stcrowd.simulate.profiles import PROFILES
    from perception3d.simulation.profiles import add_profile

    add_profile(parser, PROFILES)


def _simulate(args: argparse.Namespace) -> tuple[Any, Any]:
    """Returns the writer and the profile that the options ask for."""
    from perception3d.formats.stcrowd.simulate.profiles import PROFILES
    from perception3d.formats.stcrowd.simulate.writer import WRITER
    from perception3d.simulation.profiles import find_profile

    return WRITER, find_profile(args.profile, PROFILES)


FORMAT = Format(
    'stcrowd',
    create_data=Command(
        _CREATE_DATA, 'python tools/create_data.py stcrowd --root data/stcrowd', _add_create_data, _create_data
    ),
    simulate=Command(
        _SIMULATE,
        'python tools/simulate.py stcrowd --out data/stcrowd_sim --profile crowds',
        _add_simulate,
        _simulate,
    ),
)
