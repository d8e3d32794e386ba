"""A lane network as one ONNX file: from an image to the logits of pixels and of the existence of lanes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from perception3d.models.inference.acceleration import fold_batch_norms
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.structures.export_spec import ExportInput, ExportSpec

if TYPE_CHECKING:
    from perception3d.models.lane.segmentor import LaneSegmentor

OUTPUTS = ('seg_logits', 'exist_logits', 'embeddings')
BEFORE = 'crop and resize the image as CropResizeLaneImage of the test pipeline does'
"""What a user of the file does to an image first."""


class NormalisedNetwork(nn.Module):
    """A network with its normalisation, on the CPU: `forward(image)` to a tuple of tensors.

    Args:
        model: with `net` and a `LanePreprocessor`; the network is copied, its batch norms folded.
        outputs: from what the network returns to the tuple.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, outputs: Callable[[Any], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.net = fold_batch_norms(copy.deepcopy(model.net).eval().requires_grad_(False)).cpu()
        self.outputs = outputs
        for name in ('mean', 'std'):
            self.register_buffer(name, getattr(model.data_preprocessor, name).cpu())
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs; the image as the specification describes it."""
        return self.outputs(self.net((image.float() - self.mean) / self.std))


def example_image(input_hw: tuple[int, int]) -> ExportInput:
    """Returns the input of a `NormalisedNetwork` with an image of random pixels."""
    height, width = input_hw
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)
    return ExportInput('image', image, f'uint8 RGB (1, 3, {height}, {width}), cropped and resized')


def lane_spec(model: LaneSegmentor) -> ExportSpec:
    """Returns what goes into the ONNX file of a lane model: those of `OUTPUTS` that its network gives."""
    height, width = model.net.input_hw
    network = NormalisedNetwork(model, _given)
    with torch.no_grad():
        outputs = network.net(torch.zeros(1, 3, height, width))
    given = tuple(name for name in OUTPUTS if getattr(outputs, name) is not None)
    meanings = {
        'seg_logits': f'seg_logits (1, 1 + {model.net.num_lanes}, {height}, {width}), background first',
        'exist_logits': f'exist_logits (1, {model.net.num_lanes}) before the sigmoid',
        'embeddings': f'embeddings (1, E, {height}, {width}) of pixels',
    }
    return ExportSpec(
        network=network,
        inputs=(example_image(model.net.input_hw),),
        outputs=given,
        contains='normalisation and network, with folded batch norms; outputs: '
        + ', '.join(meanings[name] for name in given),
        before=BEFORE,
        after=f'lanes: {type(model.decoder).__name__} (models/lane), softmax over the classes first',
    )


def _given(outputs: LaneOutputs) -> tuple[Tensor, ...]:
    values = (getattr(outputs, name) for name in OUTPUTS)
    return tuple(value for value in values if value is not None)
