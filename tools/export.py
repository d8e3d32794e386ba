"""Write a model as one ONNX file, and compare it with torch by onnxruntime: `perception3d export`."""

from __future__ import annotations

from perception3d.apis.cli import run_tool
from perception3d.cli.export import main

if __name__ == '__main__':
    run_tool(main)
