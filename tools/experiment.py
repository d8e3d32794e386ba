"""Train and test the arms of an experiment file with all their seeds, and compare them in one table.

The same as `perception3d experiment`.
"""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.experiment import main

if __name__ == '__main__':
    run_tool(main)
