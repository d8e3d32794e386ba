"""A regression of the steering angle from one image of a front camera, after FM-Net (arXiv 1811.02759)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.backbones import ResNet
from mmdet3d.structures import Det3DDataSample
from mmengine.model import BaseModel
from mmengine.structures import LabelData
from torch import Tensor, nn

from perception3d.checks import InputError, unknown_name
from perception3d.models.lane.export import BEFORE, NormalisedNetwork, example_image
from perception3d.models.lane.image_size import checked_images, checked_input
from perception3d.models.lane.outputs import STAGES
from perception3d.registry import MODELS
from perception3d.structures.export_spec import ExportSpec, ReadSample


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
        # Where in the image a road curves matters: no global pooling.
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
        unit_rad = self.unit_rad
        return ExportSpec(
            network=NormalisedNetwork(self, lambda outputs: (outputs[1] * unit_rad,)),
            inputs=(example_image(self.net.input_hw),),
            outputs=('steering_rad',),
            contains='normalisation and network, with folded batch norms; output: the angle (1, 1) in radians',
            before=BEFORE,
            after='nothing: positive is to the left',
        )


def _angle_of(sample: Any) -> Tensor:
    if 'gt_steering' not in sample:
        raise InputError(
            f'{sample.metainfo.get("frame_id", "a sample")} has no steering angle: expected extra/steering.json in the '
            'data set, as the built-in world writes it, and info files made after it'
        )
    angle: Tensor = sample.gt_steering.steering_rad
    return angle
