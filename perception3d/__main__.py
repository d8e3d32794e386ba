"""`python -m perception3d VERB ..` is the command `perception3d VERB ..`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from perception3d.cli import command

if __name__ == '__main__':
    # Python puts the current folder first for -m. Files there, such as a folder mmdet3d in a clone of another project,
    # must not stand in for packages; the command itself does not see them either.
    if sys.path[:1] == [os.getcwd()] and Path(sys.path[0]) != Path(__file__).resolve().parents[1]:
        del sys.path[0]
    command()
