"""Networks of other tasks on the images of lanes, classes and depths of pixels: the frozen teachers of FM-Net."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmdet3d.structures import Det3DDataSample
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError, unknown_name
from perception3d.models.lane.image_size import checked_images, checked_input
from perception3d.models.lane.outputs import STAGES
from perception3d.models.lane.steering import residual_backbone
from perception3d.registry import MODELS
from perception3d.structures.lanes import IGNORED


def pixel_class_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels that have a class.

    Args:
        logits: (B, K, H, W).
        classes: (B, H, W); 255 does not count.

    Raises:
        InputError: a class of K or more.
    """
    classes = classes.long()
    known = classes != IGNORED
    highest = int(torch.where(known, classes, 0).max())
    if highest >= logits.shape[1]:
        raise InputError(
            f'a pixel has class {highest}, but the head has {logits.shape[1]} (num_classes): the classes of '
            'the built-in world are in extra/units.json'
        )
    total = F.cross_entropy(logits.float(), classes, ignore_index=IGNORED, reduction='sum')
    return total / known.sum().clamp(min=1)


def log_depth_loss(logits: Tensor, depth_m: Tensor) -> Tensor:
    """Mean absolute difference of the logarithms of depths, over the pixels that have one.

    Args:
        logits: (B, 1, H, W), natural logarithm of the depth in metres.
        depth_m: (B, H, W); 0 for none.
    """
    known = depth_m > 0
    difference = (logits[:, 0].float() - depth_m.clamp(min=1e-3).log()).abs()
    return (difference * known).sum() / known.sum().clamp(min=1)


@MODELS.register_module()
class ClassHead(nn.Conv2d):
    """Classes of pixels: `pixel_class_loss` with `gt_semantic`, predicts `pred_semantic`, both of `semantic` (1, H, W).

    Args:
        in_channels: of the neck.
        num_classes: K.
    """

    field, key = 'gt_semantic', 'semantic'

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, 1)

    def loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Scalar loss of logits (B, K, H, W)."""
        return pixel_class_loss(logits, truth)

    def predict(self, logits: Tensor, sample: Any) -> None:
        """Writes the classes of logits (K, H, W) into a sample."""
        sample.pred_semantic = PixelData(semantic=logits.argmax(0, keepdim=True).to(torch.uint8))


@MODELS.register_module()
class DepthHead(nn.Conv2d):
    """Depths of pixels: `log_depth_loss` with `gt_depth`, predicts `pred_depth`, both of `depth_m` (1, H, W).

    Args:
        in_channels: of the neck.
        initial_m: the depth that it predicts at first.
    """

    field, key = 'gt_depth', 'depth_m'

    def __init__(self, in_channels: int, initial_m: float = 10.0) -> None:
        super().__init__(in_channels, 1, 1)
        assert self.bias is not None
        nn.init.constant_(self.bias, math.log(initial_m))

    def loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Scalar loss of logarithms of depths (B, 1, H, W)."""
        return log_depth_loss(logits, truth)

    def predict(self, logits: Tensor, sample: Any) -> None:
        """Writes the depths of logits (1, H, W) into a sample."""
        sample.pred_depth = PixelData(depth_m=logits.exp())


@MODELS.register_module()
class PixelTaskNet(BaseModel):
    """A ResNet, a neck that adds its last three stages, and a head for every pixel.

    FM-Net's teachers are PSPNet and FlowNet2, trained on other data (the second is recalled). Here they are small
    networks that are trained on the built-in world.

    Taps are `stage1` .. `stage4`, `neck` (channels at an eighth of the image) and `logits` (at the size of the image).
    Mode 'tensor' returns the logits (B, K, H, W), 'loss' `loss_pixels`, 'predict' the samples with what the head adds.

    Args:
        input_hw: height and width of the image, multiples of 16.
        head: config of a `ClassHead` or `DepthHead`, without `in_channels`.
        data_preprocessor: config of a `LanePreprocessor`.
        depth, base_channels: of the ResNet.
        neck_channels: of the neck.
        init_cfg: as of mmengine's class.

    Raises:
        InputError: images of another size; in training, a sample without the truth that the head needs.
    """

    def __init__(
        self,
        input_hw: Sequence[int],
        head: dict[str, Any],
        data_preprocessor: dict[str, Any],
        depth: int = 18,
        base_channels: int = 64,
        neck_channels: int = 64,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.input_hw = checked_input(input_hw)
        self.backbone = residual_backbone(depth, base_channels)
        widths = [self.backbone.feat_dim // 2 ** (3 - k) for k in (1, 2, 3)]
        self.laterals = nn.ModuleList(nn.Conv2d(width, neck_channels, 1) for width in widths)
        self.neck = nn.Sequential(
            nn.Conv2d(neck_channels, neck_channels, 3, padding=1, bias=False), nn.BatchNorm2d(neck_channels), nn.ReLU()
        )
        self.head = MODELS.build({**head, 'in_channels': neck_channels})
        for name in (*STAGES, 'logits'):
            setattr(self, name, nn.Identity())

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Runs the network: mode 'tensor', 'loss' or 'predict'."""
        if mode not in ('tensor', 'loss', 'predict'):
            raise unknown_name('mode', mode, ('tensor', 'loss', 'predict'))
        stages = tuple(self.backbone(checked_images(inputs['img'], self.input_hw)))
        for name, stage in zip(STAGES, stages, strict=True):
            getattr(self, name)(stage)
        size = stages[1].shape[2:]
        maps = [lateral(stage) for lateral, stage in zip(self.laterals, stages[1:], strict=True)]
        joined = sum(F.interpolate(x, size, mode='bilinear', align_corners=False) for x in maps)
        logits = self.head(self.neck(joined))
        logits = self.get_submodule('logits')(
            F.interpolate(logits, self.input_hw, mode='bilinear', align_corners=False)
        )
        if mode == 'tensor':
            return logits
        if mode == 'loss':
            truth = torch.cat([self._truth_of(sample) for sample in data_samples])
            return {'loss_pixels': self.head.loss(logits, truth)}
        samples = data_samples or [Det3DDataSample() for _ in logits]
        for sample, value in zip(samples, logits, strict=True):
            self.head.predict(value, sample)
        return list(samples)

    def _truth_of(self, sample: Any) -> Tensor:
        if self.head.field not in sample:
            raise InputError(
                f'{sample.metainfo.get("frame_id", "a sample")} has no {self.head.field}: expected the files of '
                f'extra/ in the data set, as the built-in world writes them, and LoadPixelTargets in the pipeline'
            )
        truth: Tensor = sample.get(self.head.field).get(self.head.key)
        return truth
