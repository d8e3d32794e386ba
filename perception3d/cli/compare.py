"""Draw several models on the same samples side by side: predictions, and their BEV class scores or their errors."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import command_parser
from perception3d.apis.first_checks import check_compared


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and draws; see --help."""
    parser = command_parser(
        __doc__,
        'python tools/compare.py teacher=big.py,big.pth student=small.py,small.pth --out work_dirs/compare',
    )
    parser.add_argument(
        'models', nargs='+', metavar='TITLE=CONFIG,CHECKPOINT', help='CONFIG: a path or the name of a shipped one'
    )
    parser.add_argument('--index', nargs='+', type=int, default=[0], help='samples of the test data')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the pictures')
    parser.add_argument(
        '--logits',
        metavar='TAP',
        help="class logits (B, K, X, Y), or none for errors instead of scores (default: the model's, or bbox_head[0])",
    )
    parser.add_argument('--transposed', action='store_true', help="logits are (Y, X), as of Fast-BEV's own head")
    parser.add_argument('--score-thr', type=float, default=0.25, help='draw boxes with at least this score')
    parser.add_argument('--device', help="'cpu', 'cuda', ... (default: a GPU if there is one)")
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V')
    args = parser.parse_args(argv)

    check_compared(args.models, args.cfg_options)
    from perception3d.apis.compare import CompareOptions, compare
    from perception3d.apis.option_texts import parse_options

    options = CompareOptions(args.logits, args.transposed, args.score_thr, args.device)
    for path in compare(args.models, args.index, args.out, parse_options(args.cfg_options), options):
        print(path)
    return 0
