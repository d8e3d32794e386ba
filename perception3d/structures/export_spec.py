"""The ONNX file of a model: the network in it, its inputs and outputs, and the steps outside of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from torch import Tensor, nn

from perception3d.checks import InputError

ReadSample = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class ExportInput:
    """One input of an ONNX file.

    Attributes:
        name: its name in the file.
        example: a tensor of the shape and type that the file takes; the exported file is compared with torch on it.
        meaning: axes, units, value range.
        free_axes: axes whose size may differ from the example's, each with a name; axes of one name have one size.
    """

    name: str
    example: Tensor
    meaning: str
    free_axes: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportSpec:
    """What goes into an ONNX file.

    Attributes:
        network: takes the inputs in their order and returns a tuple of tensors, the outputs in their order.
        inputs: the inputs of the file.
        outputs: names of the outputs.
        contains: the steps inside of the file, as one sentence.
        before: what the application does to make the inputs.
        after: what the application does with the outputs.
    """

    network: nn.Module
    inputs: tuple[ExportInput, ...]
    outputs: tuple[str, ...]
    contains: str
    before: str
    after: str


def export_spec(model: Any, read_sample: ReadSample) -> ExportSpec:
    """Returns the export specification of a model: of its own method `export_spec(read_sample)`, else of its class.

    Args:
        model: a detector with its weights.
        read_sample: reads a sample as the test pipeline packs it, for models whose file depends on the calibration.

    Raises:
        InputError: the model cannot be exported; says why.
    """
    method = getattr(model, 'export_spec', None)
    return spec_of_class(model, read_sample) if method is None else method(read_sample)


@singledispatch
def spec_of_class(model: Any, read_sample: ReadSample) -> ExportSpec:
    """Returns the export specification of a model of mmdet3d, whose classes have no method `export_spec`.

    `spec_of_class.register(Class)` registers a function for a class and its subclasses.

    Raises:
        InputError: the class is not registered, or its function says why the model cannot be exported.
    """
    raise InputError(
        f'{type(model).__name__} cannot be exported: it has no method export_spec, which says what an ONNX file of it '
        'contains; docs/export.md lists the models that have one'
    )
