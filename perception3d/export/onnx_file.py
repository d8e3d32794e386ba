"""One ONNX file from an `ExportSpec`: written by one of torch's two exporters, compared with torch by onnxruntime."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception3d.checks import InputError, unknown_name
from perception3d.files import write_whole
from perception3d.structures.export_spec import ExportSpec

# Version of the operators that each exporter writes by default.
OPSETS = {'torchscript': 17, 'dynamo': 21}
# A file whose outputs differ from torch by more, relative to the largest value of the output, is refused.
LARGEST_DIFFERENCE = 1e-4
_DEPLOY = 'pip install perception3d[deploy]'


def write_onnx(
    spec: ExportSpec, out: str | Path, exporter: str = 'torchscript', opset: int | None = None
) -> float | None:
    """Writes `out` and returns how far onnxruntime is from torch on the example inputs, None without onnxruntime.

    The number is the largest difference of an output, relative to the largest value of that output. The file holds
    its weights itself, and says in its metadata what it contains and what is left to the application.

    Args:
        spec: from `export_spec`.
        out: the file; it is written whole or not at all.
        exporter: 'torchscript', or 'dynamo' (torch.export, needs onnxscript).
        opset: version of the ONNX operators; by default 17 for torchscript and 21 for dynamo.

    Raises:
        InputError: the exporter is unknown, a package is missing, or onnxruntime and torch differ.
    """
    if exporter not in OPSETS:
        raise unknown_name('exporter', exporter, OPSETS)
    _require('onnx', 'export')
    if exporter == 'dynamo':
        _require('onnxscript', 'the dynamo exporter')
    with torch.no_grad(), write_whole(out) as temporary:
        with _quiet_exporter():
            torch.onnx.export(
                spec.network, tuple(value.example for value in spec.inputs), str(temporary),
                input_names=[value.name for value in spec.inputs], output_names=list(spec.outputs),
                opset_version=opset or OPSETS[exporter], dynamo=exporter == 'dynamo', external_data=False,
                verbose=False, **_free_axes(spec, exporter),
            )  # fmt: skip
        _describe(spec, temporary)
        difference = _difference(spec, temporary)
        if difference is not None and not difference <= LARGEST_DIFFERENCE:
            raise InputError(
                f'the ONNX file of {out} differs from torch by {difference:.1e} of the largest value, expected '
                f'{LARGEST_DIFFERENCE:.0e} or less: try the other exporter ({" or ".join(OPSETS)}) or another opset'
            )
    return difference


def _free_axes(spec: ExportSpec, exporter: str) -> dict[str, Any]:
    """Returns the option of an exporter that says which axes of the inputs have any size."""
    if not any(value.free_axes for value in spec.inputs):
        return {}
    if exporter == 'torchscript':
        return {'dynamic_axes': {value.name: dict(value.free_axes) for value in spec.inputs if value.free_axes}}
    sizes = {name: torch.export.Dim(name, min=2) for value in spec.inputs for name in value.free_axes.values()}
    shapes = [{axis: sizes[name] for axis, name in value.free_axes.items()} for value in spec.inputs]
    return {'dynamic_shapes': tuple(shapes)}


def _require(package: str, user: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise InputError(f'{user} needs {package}, which is not installed: {_DEPLOY}')


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hides the notices of torch's exporters, which speak to those who develop them."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


def _describe(spec: ExportSpec, path: Path) -> None:
    """Writes what the file contains and what its inputs mean into the metadata of the file."""
    import onnx

    model = onnx.load(str(path))
    texts = {'contains': spec.contains, 'before': spec.before, 'after': spec.after}
    texts |= {f'input {value.name}': value.meaning for value in spec.inputs}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _difference(spec: ExportSpec, path: Path) -> float | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    results = session.run(list(spec.outputs), {value.name: value.example.numpy() for value in spec.inputs})
    expected = [tensor.numpy() for tensor in spec.network(*(value.example for value in spec.inputs))]
    # Unlike max, numpy keeps a NaN, which is refused too.
    return float(np.max([_relative(a, b) for a, b in zip(expected, results, strict=True)]))


def _relative(expected: np.ndarray, got: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest expected value."""
    largest = max(float(np.abs(expected).max(initial=0.0)), 1e-12)
    return float(np.abs(expected - got).max(initial=0.0)) / largest
