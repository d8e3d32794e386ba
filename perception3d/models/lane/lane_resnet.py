"""ResNets with dilated last stages and the two heads of lanes."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.backbones import ResNet
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import unknown_name
from perception3d.models.lane.existence import ExistenceBranch
from perception3d.models.lane.image_size import checked_input
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.registry import MODELS

DEPTHS = (18, 34, 50, 101)
# Strides and dilations of the four stages, by the stride of the maps.
_STAGES = {8: ((1, 2, 1, 1), (1, 1, 2, 4)), 4: ((1, 1, 1, 1), (1, 2, 4, 8))}


@MODELS.register_module()
class LaneResNet(BaseModule):
    """ResNet-18, 34, 50 or 101 whose maps stay at an eighth of the image, or a quarter, as in DeepLab, for lanes.

    The author of SAD states: 8 times downsampling with dilated last stages, the residual stages as blocks 1 to 4, no
    message passing, and the two heads of ENet. The rest is ours: a 1 x 1 convolution to 128 channels before the heads,
    dropout of channels 0.1, class logits from a 1 x 1 convolution, enlarged bilinearly with aligned corners (as
    pytorch-auto-drive does). For four lanes at 288 x 800 it has 11.9, 22.0 and 43.4 M parameters (18, 34, 101); the
    paper's table, as recalled, has 12.4, 22.7 and 52.5 M.

    Args:
        num_lanes: L.
        input_hw: height and width of the image, multiples of 8.
        depth: 18, 34, 50 or 101.
        base_channels: of the first stage, 64 in all published ones.
        pretrained: a checkpoint of torchvision's ResNet of that depth; its names are those of the backbone.
        exist: whether it has the existence branch.
        output_stride: pixels of the image a cell of the maps, 8 or 4. With 4, on small images, cells are not wider than
            lanes; no published network has it.
        init_cfg: as of mmengine's class.

    Raises:
        InputError: `input_hw`, `depth` or `output_stride` is invalid.
    """

    def __init__(
        self,
        num_lanes: int,
        input_hw: Sequence[int] = (208, 976),
        depth: int = 18,
        base_channels: int = 64,
        pretrained: str | None = None,
        exist: bool = True,
        output_stride: int = 8,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if depth not in DEPTHS:
            raise unknown_name('depth', str(depth), map(str, DEPTHS))
        if output_stride not in _STAGES:
            raise unknown_name('output_stride', str(output_stride), map(str, _STAGES))
        strides, dilations = _STAGES[output_stride]
        self.num_lanes, self.input_hw = num_lanes, checked_input(input_hw)
        self.backbone = ResNet(
            depth=depth,
            base_channels=base_channels,
            strides=strides,
            dilations=dilations,
            norm_eval=False,
            init_cfg=None if pretrained is None else dict(type='Pretrained', checkpoint=pretrained),
        )
        self.reduce = nn.Sequential(
            nn.Conv2d(self.backbone.feat_dim, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()
        )
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(128, 1 + num_lanes, 1))
        # The existence branch takes maps at an eighth.
        self.pool = nn.Identity() if output_stride == 8 else nn.AvgPool2d(2)
        self.exist = ExistenceBranch(128, input_hw, num_lanes) if exist else None

    def forward(self, images: Tensor) -> LaneOutputs:
        """Returns the residual stages and the logits of images (B, 3, H, W)."""
        stages = tuple(self.backbone(images))
        x = self.reduce(stages[-1])
        logits = F.interpolate(self.classifier(x), self.input_hw, mode='bilinear', align_corners=True)
        return LaneOutputs(stages, logits, None if self.exist is None else self.exist(self.pool(x)))
