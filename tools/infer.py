"""Run a trained model on raw files: a picture and a JSON for each frame, and the result file of its format if any.

The same as `perception3d infer`.
"""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.infer import main

if __name__ == '__main__':
    run_tool(main)
