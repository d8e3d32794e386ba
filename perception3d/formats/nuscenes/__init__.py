"""nuScenes: `v1.0-*`, `samples/`, `sweeps/`, `maps/`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from perception3d.checks import InputError
from perception3d.formats import Command, Format
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files with history frames from a nuScenes tree: v1.0-mini, -trainval, -test, or tables with a
splits.json.

With --database also the ground-truth database, which LiDAR detectors such as CenterPoint paste objects from.
"""

_SIMULATE = """Scenes of the built-in world in the nuScenes format, with the tables `v1.0-sim`."""

_EVALUATE = """nuScenes detection: mAP, NDS and their parts of a submission file, by the devkit's own code.

The ten classes of the benchmark are scored, and no others: classes of your own (create_data --map) are scored by
tools/test.py, which knows them from the info file.
"""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='CLASS',
        help='names of the classes in the order of their labels (default: the ten of the benchmark and those of --map)',
    )
    parser.add_argument(
        '--map',
        nargs='+',
        default=[],
        metavar='CATEGORY=CLASS',
        help='class of a category of the tables, such as vehicle.forklift=forklift, in addition to those of the '
        'benchmark; boxes of categories without a class are dropped, and counted',
    )
    parser.add_argument(
        '--trainval', action='store_true', help='also write the splits train and val as one info file, trainval'
    )
    parser.add_argument(
        '--database',
        nargs='?',
        const='',
        metavar='SPLIT',
        help='also cut the objects of a split out of ten sweeps, to be pasted into other frames (default: the split '
        'named train or ..._train)',
    )
    parser.add_argument(
        '--jobs', type=int, metavar='N', help='processes for --database (default: one a core for many frames)'
    )


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.formats.nuscenes.files import CLASSES
    from perception3d.formats.nuscenes.info.build import InfoSettings, create_infos
    from perception3d.formats.nuscenes.info.categories import parse_map

    wants_database = args.database is not None
    if wants_database and 'lidar' not in args.sensors:
        raise InputError('--database cuts objects out of the LiDAR clouds: add lidar to --sensors')
    pairs = parse_map(args.map)
    classes = tuple(args.classes or dict.fromkeys([*CLASSES, *(name for _, name in pairs)]))
    settings = InfoSettings(tuple(args.offsets), args.sweeps, tuple(args.sensors), classes, pairs)
    summary = create_infos(args.root, args.version, settings, trainval=args.trainval)
    for split, entry in summary.items():
        print(f'{split}: {entry["samples"]} samples of {entry["scenes"]} scenes -> {entry["path"]}')
    columns = {split: entry['classes'] for split, entry in summary.items()}
    if wants_database:
        from perception3d.datasets.ground_truth_database import FOLDER
        from perception3d.formats.nuscenes.info.database import create_database

        paths = {split: entry['path'] for split, entry in summary.items()}
        split, columns['database'] = create_database(paths, args.database or None, args.jobs)
        print(f'database of {split}: {sum(columns["database"].values())} objects -> {paths[split].parent / FOLDER}')
    width = max(12, *(len(title) + 2 for title in columns))
    print(f'{"boxes":<22}' + ''.join(f'{title:>{width}}' for title in columns))
    for name in classes:
        print(f'{name:<22}' + ''.join(f'{counts.get(name, 0):>{width}}' for counts in columns.values()))
    for split, entry in summary.items():
        for note in entry['notes']:
            print(f'note: {split}: {note}')


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    parser.add_argument('--version', help='folder of the tables; not needed where there is one')
    parser.add_argument('--split', help='a split whose samples must all be in PRED (default: the samples in PRED)')


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, float], str]:
    """Returns the flat scores and the table to print."""
    from perception3d.formats.nuscenes.evaluation.scores import evaluate_submission

    return evaluate_submission(args.gt, args.pred, args.version, args.split)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    from perception3d.formats.nuscenes.simulate.profiles import PROFILES
    from perception3d.simulation.profiles import add_profile

    add_profile(parser, PROFILES)
    parser.add_argument('--keyframes', type=int, help='keyframes of a scene, 0.5 s apart')
    parser.add_argument('--no-sweeps', action='store_true', help='write keyframes alone')


def _simulate(args: argparse.Namespace) -> tuple[Any, Any]:
    from perception3d.formats.nuscenes.simulate.profiles import PROFILES
    from perception3d.formats.nuscenes.simulate.writer import WRITER
    from perception3d.simulation.profiles import find_profile

    profile = find_profile(args.profile, PROFILES)
    if args.keyframes is not None:
        profile = replace(profile, keyframes=args.keyframes)
    if args.no_sweeps:
        profile = replace(profile, sweeps=False)
    return WRITER, profile


FORMAT = Format(
    'nuscenes',
    create_data=Command(
        _CREATE_DATA,
        'python tools/create_data.py nuscenes --root data/nuscenes --version v1.0-trainval',
        _add_create_data,
        _create_data,
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py nuscenes --gt data/nuscenes --pred results_nusc.json --split val --out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
    simulate=Command(
        _SIMULATE, 'python tools/simulate.py nuscenes --out data/sim_tiny --profile tiny', _add_simulate, _simulate
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
