"""A regression of the steering angle from one image of a front camera, after FM-Net (arXiv 1811.02759)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.backbones import ResNet
from mmdet3d.structures import Det3DDataSample
from mmengine.model import BaseModel
from mmengine.structures import LabelData
from torch import Tensor, nn

from perception3d.checks import InputError, unknown_name
from perception3d.models.inference.acceleration import fold_batch_norms
from perception3d.models.lane.existence import checked_input
from perception3d.registry import MODELS
from perception3d.structures.export_spec import ExportInput, ExportSpec, ReadSample

STAGES = ('stage1', 'stage2', 'stage3', 'stage4')
"""Submodules that pass on the maps of the four stages."""


def residual_backbone(depth: int, base_channels: int) -> ResNet:
    """Returns a ResNet whose stages have a quarter, an eighth, a sixteenth and a sixteenth of the rows of an image."""
    return ResNet(depth=depth, base_channels=base_channels, strides=(1, 2, 2, 1), norm_eval=False, init_cfg=None)


class SteeringNet(nn.Module):
    """From a normalised image to its stages and the angle (B, 1) in units of `unit_rad`.

    Args:
        input_hw: height and width of the image, multiples of 16.
        depth, base_channels: of the ResNet.
    """

    def __init__(self, input_hw: Sequence[int], depth: int, base_channels: int) -> None:
        super().__init__()
        self.input_hw = checked_input(input_hw)
        height, width = self.input_hw
        if height % 16 or width % 16:
            raise InputError(f'input_hw is {[height, width]}: expected height and width, multiples of 16')
        self.backbone = residual_backbone(depth, base_channels)
        # The place of a road's bend in the image matters: no pooling over the whole map.
        self.reduce = nn.Sequential(nn.Conv2d(self.backbone.feat_dim, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.regress = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * (height // 16) * (width // 16), 64), nn.ReLU(), nn.Linear(64, 1)
        )

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Returns the four stages and the angle."""
        stages = tuple(self.backbone(images))
        return stages, self.regress(self.reduce(stages[-1]))


@MODELS.register_module()
class SteeringRegressor(BaseModel):
    """Predicts the steering angle of an image.

    FM-Net regresses it with a 3D ResNet-50 and an LSTM from several frames; this student sees one frame, with a ResNet
    of any width, which is our choice for small experiments. The loss is the mean squared error, as there. What makes it
    FM-Net is the distillation: its stages mimic frozen networks of other tasks, see `configs/fm_net`.

    Taps are `stage1` .. `stage4` and `steering`. Mode 'tensor' returns angles (B, 1) in radians, left above 0, 'loss'
    `loss_steering`, 'predict' the samples with `pred_steering`, a LabelData(steering_rad=(1,)).

    Args:
        input_hw: height and width of the image, multiples of 16.
        depth, base_channels: of the ResNet.
        unit_rad: the angle that the network's output 1 stands for, about the spread of the data.
        data_preprocessor: config of a `LanePreprocessor`.
        init_cfg: as of mmengine's class.

    Raises:
        InputError: `input_hw` or `unit_rad` is invalid; images of another size; in training, a sample without an angle.
    """

    def __init__(
        self,
        input_hw: Sequence[int],
        data_preprocessor: dict[str, Any],
        depth: int = 18,
        base_channels: int = 64,
        unit_rad: float = 0.1,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if not unit_rad > 0:
            raise InputError(f'unit_rad is {unit_rad}: expected an angle above 0')
        self.net = SteeringNet(input_hw, depth, base_channels)
        self.unit_rad = unit_rad
        for name in (*STAGES, 'steering'):
            setattr(self, name, nn.Identity())

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Runs the network: mode 'tensor', 'loss' or 'predict'."""
        if mode not in ('tensor', 'loss', 'predict'):
            raise unknown_name('mode', mode, ('tensor', 'loss', 'predict'))
        stages, angle = self.net(checked_images(inputs['img'], self.net.input_hw))
        for name, stage in zip(STAGES, stages, strict=True):
            getattr(self, name)(stage)
        angle = self.get_submodule('steering')(angle)
        if mode == 'loss':
            truth = torch.stack([_angle_of(sample) for sample in data_samples]).to(angle)
            return {'loss_steering': (angle - truth / self.unit_rad).square().mean()}
        angle = angle * self.unit_rad
        if mode == 'tensor':
            return angle
        samples = data_samples or [Det3DDataSample() for _ in angle]
        for sample, value in zip(samples, angle, strict=True):
            sample.pred_steering = LabelData(steering_rad=value)
        return list(samples)

    def export_spec(self, read_sample: ReadSample) -> ExportSpec:
        """Returns what goes into the ONNX file: normalisation and network, from an image to the angle."""
        height, width = self.net.input_hw
        generator = torch.Generator().manual_seed(0)
        image = torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)
        return ExportSpec(
            network=SteeringNetwork(self).eval(),
            inputs=(ExportInput('image', image, f'uint8 RGB (1, 3, {height}, {width}), cropped and resized'),),
            outputs=('steering_rad',),
            contains='normalisation and network, with folded batch norms; output: the angle (1, 1) in radians',
            before='crop and resize the image as CropResizeLaneImage of the test pipeline does',
            after='nothing: positive is to the left',
        )


class SteeringNetwork(nn.Module):
    """A network with its normalisation: `forward(image)` to a tuple of the angle (1, 1) in radians.

    Args:
        model: copied, its batch norms folded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: SteeringRegressor) -> None:
        super().__init__()
        self.net = fold_batch_norms(copy.deepcopy(model.net).eval().requires_grad_(False)).cpu()
        self.unit_rad = model.unit_rad
        for name in ('mean', 'std'):
            self.register_buffer(name, getattr(model.data_preprocessor, name).cpu())

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Returns the angle; the image as the specification describes it."""
        return (self.net((image.float() - self.mean) / self.std)[1] * self.unit_rad,)


def checked_images(images: Tensor, input_hw: tuple[int, int]) -> Tensor:
    """Returns images (B, 3, H, W); InputError where they have another size than the network takes."""
    if tuple(images.shape[-2:]) != input_hw:
        raise InputError(
            f'images have {images.shape[-1]} x {images.shape[-2]} pixels, but the network takes {input_hw[1]} x '
            f'{input_hw[0]}: set input_hw of CropResizeLaneImage and of the model to one value'
        )
    return images


def _angle_of(sample: Any) -> Tensor:
    if 'gt_steering' not in sample:
        raise InputError(
            f'{sample.metainfo.get("frame_id", "a sample")} has no steering angle: expected extra/steering.json in the '
            'data set, as the built-in world writes it, and info files made after it'
        )
    angle: Tensor = sample.gt_steering.steering_rad
    return angle
