"""SCNN (AAAI 2018): VGG16 and messages that pass over rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.models.lane.existence import ExistenceHead
from perception3d.models.lane.image_size import checked_input
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.registry import MODELS

# Convolutions of each group of VGG16 and their channels, in units of the first.
_GROUPS = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


def vgg16_layers(width: int = 64) -> list[nn.Module]:
    """Returns the layers of VGG16 with batch norm for maps at an eighth of the image.

    The last two poolings are left out and the last group has dilation 2. A layer that does nothing stands in their
    place, so that layers have the numbers of torchvision's `vgg16_bn.features`.

    Args:
        width: channels of the first group, 64 in VGG16.
    """
    layers: list[nn.Module] = []
    before = 3
    for number, (count, factor) in enumerate(_GROUPS):
        far = 2 if number == 4 else 1
        for _ in range(count):
            conv = nn.Conv2d(before, width * factor, 3, padding=far, dilation=far)
            layers += [conv, nn.BatchNorm2d(width * factor), nn.ReLU(inplace=True)]
            before = width * factor
        layers.append(nn.MaxPool2d(2) if number < 3 else nn.Identity())
    return layers


class MessagePassing(nn.Module):
    """Slices of a map, one after the other, add what a convolution makes of the slice before them.

    Down, up, to the right and to the left; each direction has one convolution of nine pixels for all of its slices,
    without bias, and ReLU before the sum.

    Args:
        channels: of the map.
        kernel: pixels of a slice that a message reads.
    """

    # Axis of the slices, and whether the last one is the first.
    _DIRECTIONS = ((2, False), (2, True), (3, False), (3, True))

    def __init__(self, channels: int, kernel: int = 9) -> None:
        super().__init__()
        convs = [nn.Conv1d(channels, channels, kernel, padding=kernel // 2, bias=False) for _ in self._DIRECTIONS]
        # Of the released code.
        deviation = math.sqrt(2 / (kernel * channels * channels * 5))
        for conv in convs:
            nn.init.normal_(conv.weight, std=deviation)
        self.convs = nn.ModuleList(convs)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map of the shape of x."""
        for conv, (axis, backwards) in zip(self.convs, self._DIRECTIONS, strict=True):
            slices = list(x.unbind(axis))
            order = range(len(slices) - 1, -1, -1) if backwards else range(len(slices))
            last = None
            for k in order:
                if last is not None:
                    slices[k] = slices[k] + torch.relu(conv(slices[last]))
                last = k
            x = torch.stack(slices, axis)
        return x


@MODELS.register_module()
class SCNN(BaseModule):
    """SCNN on VGG16 as released: 20.7 M parameters at 288 x 800 for four lanes.

    Maps at an eighth of the image pass a 3 x 3 convolution of dilation 4 to 1024 channels and one of 1 x 1 to 128, then
    `MessagePassing`, dropout and a 1 x 1 convolution to the classes, whose logits are enlarged bilinearly. Existence is
    read from their softmax, pooled by 2. The stages, which the paper does not have: the third, fourth and fifth group
    of VGG16, and the map after the messages.

    Args:
        num_lanes: L.
        input_hw: height and width of the image, multiples of 8.
        width: channels of the first group of VGG16; the others follow.
        pretrained: a checkpoint of torchvision's `vgg16_bn`.
        exist: whether it has the existence branch.
        init_cfg: as of mmengine's class.

    Raises:
        InputError: `input_hw` is invalid.
    """

    def __init__(
        self,
        num_lanes: int,
        input_hw: Sequence[int] = (208, 976),
        width: int = 64,
        pretrained: str | None = None,
        exist: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_lanes, self.input_hw = num_lanes, checked_input(input_hw)
        weights = None if pretrained is None else dict(type='Pretrained', checkpoint=pretrained, prefix='features')
        self.features = Sequential(*vgg16_layers(width), init_cfg=weights)
        self.reduce = nn.Sequential(
            nn.Conv2d(8 * width, 16 * width, 3, padding=4, dilation=4, bias=False), nn.BatchNorm2d(16 * width),
            nn.ReLU(), nn.Conv2d(16 * width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
        )  # fmt: skip
        self.messages = MessagePassing(2 * width)
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(2 * width, 1 + num_lanes, 1))
        self.exist = ExistenceHead(1 + num_lanes, input_hw, num_lanes) if exist else None

    def forward(self, images: Tensor) -> LaneOutputs:
        """Returns the stages and the logits of images (B, 3, H, W)."""
        stages, x = [], images
        ends = [3 * sum(count for count, _ in _GROUPS[: k + 1]) + k for k in range(2, len(_GROUPS))]
        for number, layer in enumerate(self.features):
            # The layer after a group pools.
            if number in ends:
                stages.append(x)
            x = layer(x)
        x = self.messages(self.reduce(x))
        logits = self.classifier(x)
        exist = None if self.exist is None else self.exist(F.avg_pool2d(logits.softmax(1), 2))
        return LaneOutputs(
            (*stages, x), F.interpolate(logits, self.input_hw, mode='bilinear', align_corners=True), exist
        )
