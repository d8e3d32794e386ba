"""Write info files from a data set on disk, after checking it."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import command_parser, run_tool
from perception3d.apis.formats import add_formats


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the format's part; see --help."""
    parser = command_parser(__doc__, 'python tools/create_data.py nuscenes --root data/nuscenes')
    formats = add_formats(parser, 'perception3d.datasets.formats')
    args = parser.parse_args(argv)
    formats[args.format].run(args)
    return 0


if __name__ == '__main__':
    run_tool(main)
