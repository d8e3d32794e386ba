"""`python -m perception3d VERB ..` is the command `perception3d VERB ..`."""

from __future__ import annotations

import os
import sys

if __name__ == '__main__':
    # Python puts the current folder first for -m. Files there, such as a folder mmdet3d in a clone of another project,
    # must not stand in for packages; the command itself does not see them either.
    package = os.path.dirname(os.path.abspath(__file__))
    if sys.path[:1] == [os.getcwd()] and sys.path[0] != os.path.dirname(package):
        del sys.path[0]

    from perception3d.cli import command

    command()
