"""Write info files from a data set on disk, after checking it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from perception3d.apis.cli import command_parser
from perception3d.apis.formats import parse_arguments
from perception3d.locks import folder_lock
from perception3d.outputs import check_outputs


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the format's part; see --help."""
    parser = command_parser(__doc__, 'python tools/create_data.py nuscenes --root data/nuscenes')
    args = parse_arguments(parser, 'create_data', argv)
    with _held(args.root):
        args.run(args)
    return 0


@contextmanager
def _held(root: str) -> Iterator[None]:
    """Makes sure that the root can be written, and that no other create_data writes into it meanwhile."""
    if not Path(root).is_dir():
        # The format says what is wrong and what it expects there.
        yield
        return
    check_outputs(folders=[root])
    with folder_lock(root, 'being written'):
        yield
