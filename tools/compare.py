"""Draw several models on the same samples side by side: predictions, and their BEV class scores or their errors.

The same as `perception3d compare`.
"""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.compare import main

if __name__ == '__main__':
    run_tool(main)
