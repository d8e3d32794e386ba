"""Make a data set of the built-in world in the format of a real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perception3d.apis.cli import command_parser, run_tool
from perception3d.checks import InputError
from perception3d.simulation.profiles import Profile, find_profile
from perception3d.simulation.run import default_jobs, simulate
from perception3d.simulation.writers import Request, find_writer, list_writers

EXAMPLE = """python tools/simulate.py nuscenes --out data/sim_tiny --profile tiny
  python tools/simulate.py kitti --out data/sim_kitti --profile tiny
  python tools/simulate.py nuscenes --out data/sim --profile default --scenes 8 --val-scenes 2 --seed 3"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and makes the data set; see --help."""
    parser = command_parser(__doc__, EXAMPLE)
    known = {name: ', '.join(writer.profiles) for name, writer in list_writers().items()}
    parser.add_argument('format', metavar='FORMAT', help=f'format of the data set: {", ".join(known)}')
    parser.add_argument('--out', type=Path, required=True, help='folder to write; an interrupted run continues')
    listed = '; '.join(f'{name}: {profiles}' for name, profiles in known.items())
    parser.add_argument('--profile', default='default', help=f'sizes and amounts ({listed})')
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same bytes')
    parser.add_argument('--scenes', type=int, help='scenes to train on (default: as the profile says)')
    parser.add_argument('--val-scenes', type=int, help='scenes to test on (default: as the profile says)')
    parser.add_argument('--keyframes', type=int, help='keyframes of a scene, 0.5 s apart')
    parser.add_argument('--no-sweeps', action='store_true', help='write keyframes alone')
    parser.add_argument('--jobs', type=int, default=default_jobs(), help='processes (default: one per core)')
    args = parser.parse_args(argv)
    profile = find_profile(args.profile, find_writer(args.format).profiles)
    if not isinstance(profile, Profile) and (args.keyframes is not None or args.no_sweeps):
        raise InputError(f'{args.format} has single frames: --keyframes and --no-sweeps are for other formats')
    if args.keyframes is not None:
        if args.keyframes < 1:
            raise InputError(f'--keyframes {args.keyframes} is too few: give 1 or more')
        profile = replace(profile, keyframes=args.keyframes)
    if args.no_sweeps:
        profile = replace(profile, sweeps=False)
    scenes = profile.scenes if args.scenes is None else args.scenes
    val_scenes = profile.val_scenes if args.val_scenes is None else args.val_scenes
    done = simulate(args.format, Request(args.out, args.seed, profile, scenes, val_scenes), args.jobs)
    print(f'{args.out}: {done["scenes"]} scenes, {done["made"]} of them made now in {done["seconds"]:.1f} s')
    return 0


if __name__ == '__main__':
    run_tool(main)
