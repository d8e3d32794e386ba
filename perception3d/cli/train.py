"""Train the model of a config."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import CONFIG_HELP, command_parser
from perception3d.apis.first_checks import check_first


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; see --help."""
    parser = command_parser(__doc__, 'python tools/train.py configs/fast_bev/fast_bev_tiny_96x352_9e_sim.py --amp')
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/<config name>)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const=True,
        default=False,
        metavar='CKPT',
        help='continue the training of CKPT, or of the newest checkpoint in the work folder',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='begin in a work folder that holds checkpoints; they are removed once the first new one is written',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='K=V', help='change values of the config; +K=V adds a key'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument('--amp', action='store_true', help='mixed precision: bf16 on the CPU and the GPU')
    parser.add_argument('--dry-run', action='store_true', help='build all, take one step, print shapes and parameters')
    args = parser.parse_args(argv)

    resumed = args.resume if isinstance(args.resume, str) else None
    check_first(args.config, resumed, args.cfg_options, reads_data=True)
    from perception3d.apis.training import dry_run, train

    options = {key: getattr(args, key) for key in ('work_dir', 'resume', 'overwrite', 'launcher', 'amp')}
    run = dry_run if args.dry_run else train
    run(args.config, args.cfg_options, **options)
    return 0
