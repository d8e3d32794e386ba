"""Train and test the arms of an experiment file with all their seeds, and compare them in one table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from perception3d.apis.cli import command_parser
from perception3d.apis.config_names import repository
from perception3d.apis.first_checks import check_experiment_file
from perception3d.checks import InputError

FORMAT = 'its keys are explained in perception3d/experiment/plan.py (read_experiment)'


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the experiment; see --help."""
    parser = command_parser(__doc__, 'python tools/experiment.py configs/experiments/bev_distillation.py --jobs 2')
    parser.add_argument('file', metavar='FILE', type=Path, help=f'an experiment file in Python: {FORMAT}')
    parser.add_argument(
        '--out', type=Path, help='output folder (default: work_dirs/<name>); its unfinished cells are resumed'
    )
    parser.add_argument('--jobs', type=int, default=1, help='cells side by side; they share the cores')
    parser.add_argument('--only', nargs='+', metavar='ARM', help='run these arms, and what they need')
    parser.add_argument('--seeds', nargs='+', type=int, metavar='K', help='run these seeds, and what they need')
    parser.add_argument(
        '--redo', nargs='+', default=[], metavar='ARM', help='run these arms again, and all that was made from them'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument('--nproc', type=int, default=1, help='processes of a cell, each with a batch of its own')
    parser.add_argument('--slurm-args', default='', metavar='ARGS', help='for srun: --slurm-args="--gres=gpu:1 -n 1"')
    parser.add_argument('--dry-run', action='store_true', help='print the commands of every cell, run none')
    parser.add_argument('--table-only', action='store_true', help='write the table of the finished cells, run nothing')
    args = parser.parse_args(argv)
    for name in ('jobs', 'nproc'):
        if getattr(args, name) < 1:
            raise InputError(f'--{name} {getattr(args, name)} is too few: give 1 or more')
    if args.nproc > 1 and args.launcher == 'none':
        raise InputError('--nproc is for torchrun and srun: add --launcher pytorch or --launcher slurm')
    if args.slurm_args and args.launcher != 'slurm':
        raise InputError('--slurm-args is for srun: add --launcher slurm')

    check_experiment_file(args.file)
    from perception3d.experiment.commands import Launch
    from perception3d.experiment.run import Request, run_experiment

    home = repository()
    launch = Launch(home and home / 'tools', args.jobs, args.launcher, args.nproc, tuple(shlex.split(args.slurm_args)))
    choice = {'only': args.only, 'seeds': args.seeds, 'redo': args.redo}
    modes = {'dry_run': args.dry_run, 'table_only': args.table_only}
    return run_experiment(Request(args.file, launch, args.out, **choice, **modes))
