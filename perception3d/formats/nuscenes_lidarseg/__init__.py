"""nuScenes-lidarseg: a nuScenes tree with `lidarseg/`, `lidarseg.json`, and of Panoptic nuScenes `panoptic/`."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format, simulate_command
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files of the keyframes of a nuScenes tree with nuScenes-lidarseg unpacked over it.

Every label file is read: its number of labels and its ids are checked, and its points are counted by class. Splits are
those of the devkit and of splits.json; those of v1.0-test have no labels. The files of create_data nuscenes stay.
"""

_EVALUATE = """nuScenes-lidarseg: mIoU, fwIoU and IoU by class of a results folder, bit for bit as the devkit does.

GT is the nuScenes tree. PRED has lidarseg/SPLIT/TOKEN_lidarseg.bin: uint8, 1 to 16, for every point of every keyframe
of the split. --panoptic also scores PRED/panoptic/SPLIT/TOKEN_panoptic.npz as Panoptic nuScenes does; lidarseg/ may
then be missing. Scores are in 0..1; a class that does not occur has none, and is left out of the mean IoU (but not of
panoptic means).
"""

_SIMULATE = """Scenes of the built-in world in the nuScenes format, with lidarseg and panoptic labels."""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the tree: samples/, lidarseg/, maps/, v1.0-*/')
    parser.add_argument('--version', help='folder of the tables; not needed where there is one')
    parser.add_argument(
        '--sweeps',
        type=int,
        default=10,
        metavar='N',
        help='earlier LiDAR sweeps to list, which must be there; 0 if you have the keyframes only (default: 10)',
    )
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many keyframes)')


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.frame_building import print_point_summary
    from perception3d.formats.nuscenes_lidarseg.info import create_infos

    print_point_summary(create_infos(args.root, args.version, args.sweeps, args.jobs))


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    parser.add_argument('--version', help='folder of the tables; not needed where there is one')
    parser.add_argument('--split', help='not needed where PRED has the results of one split')
    parser.add_argument('--panoptic', action='store_true', help='also score PRED/panoptic')


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print."""
    from perception3d.formats.nuscenes_lidarseg.evaluation.folders import evaluate_results

    return evaluate_results(args.gt, args.pred, args.version, args.split, args.panoptic)


FORMAT = Format(
    'nuscenes-lidarseg',
    create_data=Command(
        _CREATE_DATA,
        'python tools/create_data.py nuscenes-lidarseg --root data/nuscenes --version v1.0-trainval',
        _add_create_data,
        _create_data,
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py nuscenes-lidarseg --gt data/nuscenes --pred results --out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
    simulate=simulate_command(
        _SIMULATE,
        'python tools/simulate.py nuscenes-lidarseg --out data/sim_lidarseg --profile points',
        'perception3d.formats.nuscenes_lidarseg.simulate',
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
