"""Export of a trained model as one ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.export.onnx_file import write_onnx
from perception3d.registry import DATASETS, MODELS
from perception3d.structures.export_spec import ExportSpec, export_spec


@dataclass(frozen=True)
class Exported:
    """A written ONNX file.

    Attributes:
        spec: its content.
        difference: largest difference of onnxruntime to torch on the example inputs, relative to the largest value of
            the output; None where onnxruntime is not installed.
    """

    spec: ExportSpec
    difference: float | None

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Names of the inputs and their shapes."""
        return {value.name: tuple(value.example.shape) for value in self.spec.inputs}

    def report(self, path: str | Path) -> str:
        """Returns the content of the file, the steps left to the application, and the difference to torch."""
        spec = self.spec
        checked = 'not compared with torch: onnxruntime is not installed (pip install perception3d[deploy])'
        if self.difference is not None:
            checked = f'onnxruntime differs from torch by {self.difference:.1e} of the largest value'
        lines = [
            f'{path}: {Path(path).stat().st_size / 1e6:.2f} MB',
            *(f'  input {value.name} {self.inputs[value.name]}: {value.meaning}' for value in spec.inputs),
            f'  outputs {", ".join(spec.outputs)}',
            f'  in the file: {spec.contains}',
            f'  before it: {spec.before}',
            f'  after it: {spec.after}',
            checked,
        ]
        return '\n'.join(lines)


def export(
    config: Config,
    checkpoint: str | Path | None,
    out: str | Path,
    *,
    exporter: str = 'torchscript',
    opset: int | None = None,
    sample: int = 0,
) -> Exported:
    """Writes the model of `config` as an ONNX file; the model says what the file contains (`export_spec`).

    Args:
        config: a loaded config.
        checkpoint: weights of that config; None for random weights.
        out: the file.
        exporter: 'torchscript', or 'dynamo' (needs onnxscript).
        opset: version of the ONNX operators; by default 17 for torchscript and 21 for dynamo.
        sample: index of the sample of the test data whose calibration goes into the file, for camera models.

    Raises:
        InputError: the model cannot be exported, a package is missing, the test data cannot be read, or the outputs of
            onnxruntime differ from those of torch.
    """
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    model = MODELS.build(config.model).eval()
    if checkpoint is not None:
        load_weights(model, checkpoint)
    spec = export_spec(model, lambda: _read_sample(config, sample))
    return Exported(spec, write_onnx(spec, out, exporter, opset))


def _read_sample(config: Config, index: int) -> Mapping[str, Any]:
    """Reads sample `index` of the test data, as the test pipeline packs it."""
    loader = config.get('test_dataloader')
    if not loader:
        raise InputError(f'{config.filename} has no test_dataloader: export reads the calibration from a test sample')
    dataset = DATASETS.build(loader['dataset'])
    if not 0 <= index < len(dataset):
        raise InputError(f'sample {index} does not exist: the test data have samples 0 to {len(dataset) - 1}')
    return dataset[index]
