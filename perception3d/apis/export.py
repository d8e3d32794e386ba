"""Writing ONNX files, and checking them where onnxruntime is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.files import write_whole
from perception3d.models.lidar_det.export import DensePart
from perception3d.registry import MODELS


def export_onnx(config: Config, checkpoint: str | Path | None, out: str | Path, opset: int = 17) -> dict[str, Any]:
    """Writes the dense part of the detector of `config` and returns what is in the file.

    Returns {'input': shape, 'outputs': names, 'difference': largest difference to torch on random input, relative to
    the largest output, or None where onnxruntime is missing}. Without a checkpoint the weights are random.

    Raises:
        InputError: the model has no dense part, or onnx is not installed.
    """
    try:
        import onnx  # noqa: F401  (torch's exporter asks for it at the end)
    except ImportError as error:
        raise InputError('export needs onnx: pip install perception3d[onnx]') from error
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    model = MODELS.build(config.model).eval()
    if checkpoint is not None:
        load_weights(model, checkpoint)
    part = DensePart(model).eval()
    names = part.output_names()
    canvas = torch.rand(part.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), write_whole(out) as temporary:
        torch.onnx.export(
            part, (canvas,), str(temporary), input_names=['pillars'], output_names=names, opset_version=opset,
            dynamo=False,
        )  # fmt: skip
    return {'input': part.shape, 'outputs': names, 'difference': _difference(part, canvas, out)}


def _difference(part: DensePart, canvas: torch.Tensor, path: str | Path) -> float | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    results = session.run(None, {'pillars': canvas.numpy()})
    with torch.no_grad():
        wanted = [tensor.numpy() for tensor in part(canvas)]
    largest = max(float(np.abs(tensor).max()) for tensor in wanted)
    return max(float(np.abs(a - b).max()) for a, b in zip(wanted, results, strict=True)) / largest
