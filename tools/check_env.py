"""Say what is installed, what is missing, and the exact command that fixes it: `perception3d check_env`."""

from __future__ import annotations

import sys
from pathlib import Path

# It also runs before the package is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from perception3d.apis.cli import run_tool  # noqa: E402
from perception3d.cli.check_env import main  # noqa: E402

if __name__ == '__main__':
    run_tool(main)
