"""Make a data set of the built-in world in the format of a real one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from perception3d.apis.cli import command_parser
from perception3d.apis.formats import parse_arguments
from perception3d.apis.simulate import default_jobs, simulate
from perception3d.simulation.jobs import Request

EXAMPLE = """python tools/simulate.py nuscenes --out data/sim_tiny --profile tiny
  python tools/simulate.py kitti --out data/sim_kitti --profile tiny
  python tools/simulate.py nuscenes --out data/sim --profile default --scenes 8 --val-scenes 2 --seed 3"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and makes the data set; see --help."""
    parser = command_parser(__doc__, EXAMPLE)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument('--out', type=Path, required=True, help='folder to write; an interrupted run resumes')
    shared.add_argument('--seed', type=int, default=0, help='the same seed gives the same bytes')
    shared.add_argument('--scenes', type=int, help='scenes to train on (default: as the profile says)')
    shared.add_argument('--val-scenes', type=int, help='scenes to test on (default: as the profile says)')
    shared.add_argument('--jobs', type=int, default=default_jobs(), help='processes (default: one per core)')
    args = parse_arguments(parser, 'simulate', argv, [shared])
    writer, profile = args.run(args)
    scenes = profile.scenes if args.scenes is None else args.scenes
    val_scenes = profile.val_scenes if args.val_scenes is None else args.val_scenes
    done = simulate(writer, Request(args.out, args.seed, profile, scenes, val_scenes), args.jobs)
    print(f'{args.out}: {done["scenes"]} scenes, {done["made"]} of them made now in {done["seconds"]:.1f} s')
    return 0
