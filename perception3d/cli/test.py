"""Evaluate a checkpoint: metrics, pictures, submission files."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import CHECKPOINT_HELP, CONFIG_HELP, command_parser
from perception3d.apis.first_checks import check_first


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and tests; see --help."""
    parser = command_parser(
        __doc__, 'python tools/test.py CONFIG CKPT --out work_dirs/metrics.json --show-dir work_dirs/pictures'
    )
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument('checkpoint', help=CHECKPOINT_HELP)
    parser.add_argument('--work-dir', help='folder for logs (default: work_dirs/<config name>)')
    parser.add_argument('--out', metavar='FILE', help='write the metrics to this JSON file')
    parser.add_argument('--show-dir', metavar='DIR', help='write one picture per sample into this folder')
    parser.add_argument('--show-interval', type=int, default=1, help='draw every n-th sample')
    parser.add_argument('--score-thr', type=float, default=0.25, help='draw boxes with at least this score')
    parser.add_argument('--video', choices=['mp4', 'gif'], help='also join the pictures of each scene into a video')
    parser.add_argument('--html', metavar='FILE', help='write pictures and metrics into this HTML file')
    parser.add_argument('--format-only', metavar='DIR', help='write submission files into this folder, no metrics')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument('--amp', action='store_true', help='run the network in bf16')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation, where the config defines it')
    parser.add_argument('--fast', action='store_true', help='fold batch norms, use the fastest convolutions')
    parser.add_argument(
        '--stream',
        action='store_true',
        help='Fast-BEV, BEVFormer: frame by frame, history kept by the model',
    )
    args = parser.parse_args(argv)

    check_first(args.config, args.checkpoint, args.cfg_options, reads_data=True)
    from perception3d.apis.testing import test

    test(
        args.config,
        args.checkpoint,
        args.cfg_options,
        work_dir=args.work_dir,
        out=args.out,
        show_dir=args.show_dir,
        show_interval=args.show_interval,
        score_thr=args.score_thr,
        video=args.video,
        html=args.html,
        format_only=args.format_only,
        launcher=args.launcher,
        amp=args.amp,
        tta=args.tta,
        fast=args.fast,
        stream=args.stream,
    )
    return 0
