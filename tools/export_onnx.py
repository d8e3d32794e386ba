"""Old name of tools/export.py: the same command with the same arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from perception3d.apis.cli import run_tool
from perception3d.cli import export


def main(argv: Sequence[str] | None = None) -> int:
    """Says the new name and exports."""
    print('tools/export_onnx.py is the old name of tools/export.py', file=sys.stderr)
    return export.main(argv)


if __name__ == '__main__':
    run_tool(main)
