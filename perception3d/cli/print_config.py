"""Print a config as it is after all its bases and options."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import CONFIG_HELP, command_parser
from perception3d.apis.first_checks import check_first


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and prints; see --help."""
    parser = command_parser(__doc__, 'python tools/print_config.py CONFIG --key model.img_backbone')
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument('--key', help='print this part alone, as a dotted key')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V')
    args = parser.parse_args(argv)

    check_first(args.config)
    from perception3d.apis.config import load_config, part_of
    from perception3d.apis.option_texts import parse_options

    config = load_config(args.config, parse_options(args.cfg_options))
    print(part_of(config, args.key))
    return 0
