"""STCrowd: crowds of pedestrians, `anno/`, `pcd/`, `left/`, `split.json`, `camera.json`."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files and ground-truth database from the release of STCrowd: anno/, pcd/, left/, split.json,
camera.json.

People who sit, have fewer than 15 points or stand outside the labelled sector are listed as ignored, with the reason:
they are neither objects nor background. Images may be missing. Which way a yaw turns is not documented: it is found
from the points of elongated boxes, unless --yaw-sign says it.
"""

_SIMULATE = """Crowds of the built-in world in the layout of STCrowd: anno/, pcd/, left/, split.json, camera.json."""

_EVALUATE = """Scores of crowds by the distance of centres, in 3D and in BEV, and of tracks.

GT is the folder anno/ or the tree with it; where the clouds are there as well, their points are counted in the boxes.
Or an info file of tools/create_data.py stcrowd, which is faster. PRED holds SEQUENCE.json in the same layout with a
score for each item; items with an id are tracks, or those of PRED/tracks/SEQUENCE.json. Sequences with results are
scored.

AP at 0.25, 0.5 and 1 m, AR by occlusion, recall by neighbours, range and points, rates of duplicates and merges,
counting error, MOTA, IDF1, MT, ML and AMOTA; intervals of the bootstrap over sequences.
"""


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


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    parser.add_argument('--compat', metavar='NAME', help='settings of another evaluation: crowdquery')
    parser.add_argument('--ap', help='nus: as nuScenes (default); area: area under the curve')
    parser.add_argument('--ar-match', metavar='MATCH', help='joint: all people at once (default); per_level')
    parser.add_argument('--score-thr', type=float, metavar='S', help='least score of AR and the rates (default: 0.1)')
    parser.add_argument('--max-dets', type=int, metavar='N', help='predictions a frame (default: 200)')
    parser.add_argument('--samples', type=int, metavar='N', help='of the bootstrap (default: 1000)')
    parser.add_argument('--seed', type=int, metavar='N', help='of the bootstrap (default: 0)')
    parser.add_argument('--no-points', action='store_true', help='count no points in clouds, which takes most time')
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many sequences)')


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print."""
    from perception3d.evaluation.crowd_options import make_options
    from perception3d.formats.stcrowd.evaluation.folders import evaluate_folders
    from perception3d.formats.stcrowd.evaluation.truth import Reading

    names = ('ap', 'ar_match', 'score_thr', 'max_dets', 'samples', 'seed')
    options = make_options(args.compat, **{name: getattr(args, name) for name in names})
    return evaluate_folders(args.gt, args.pred, options, Reading(not args.no_points, args.jobs))


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
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py stcrowd --gt data/stcrowd/anno --pred results --out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
