"""Say what is installed, what is missing, and the exact command that fixes it."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import command_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and prints the table; returns 1 if something needed is missing."""
    parser = command_parser(__doc__, 'python tools/check_env.py')
    parser.add_argument('--quiet', action='store_true', help='print only what is wrong')
    args = parser.parse_args(argv)

    from perception3d.apis.environment import check_environment

    return check_environment(quiet=args.quiet)
