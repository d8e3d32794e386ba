"""CLRNet (CVPR 2022, arXiv 2203.10350) on mmdet's neck and head, with the samples, targets and decoder of lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.backbones import ResNet
from mmdet.models.dense_heads import CLRHead
from mmdet.models.necks import CLRFPN
from mmdet3d.structures import Det3DDataSample
from mmengine.model import BaseModel, BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import unknown_name
from perception3d.models.lane.clr_targets import FIELDS, head_samples
from perception3d.models.lane.export import BEFORE, NormalisedNetwork, example_image
from perception3d.models.lane.image_size import checked_images, checked_input
from perception3d.models.lane.outputs import STAGES
from perception3d.registry import MODELS, TASK_UTILS
from perception3d.structures.expected_data import ExpectedData, Stated
from perception3d.structures.export_spec import ExportSpec, ReadSample

DEPTHS = (18, 34, 50, 101)


class SoftmaxFocalLoss(nn.Module):
    """-0.25 (1 - p)^2 log p of each prior, p the softmax of its class, as in the authors' training [K].

    mmdet's default is a sigmoid for each of the two classes and the mean over all priors, which makes the term hundreds
    of times smaller than the head's division by the number of lanes expects.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss (P,) of logits (P, 2) and labels (P,)."""
        log_p = F.log_softmax(logits.float(), 1).gather(1, labels[:, None])[:, 0]
        return -0.25 * (1 - log_p.exp()) ** 2 * log_p


class CLRNetwork(BaseModule):
    """ResNet, pyramid and head: from normalised images to the stages and the predictions of the last refinement.

    Args: those of `LaneCLRNet`.
    """

    def __init__(
        self,
        num_lanes: int,
        input_hw: Sequence[int],
        depth: int,
        base_channels: int,
        pretrained: str | None,
        head: dict[str, Any],
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise unknown_name('depth', str(depth), map(str, DEPTHS))
        self.num_lanes, self.input_hw = num_lanes, checked_input(input_hw)
        self.backbone = ResNet(
            depth=depth,
            base_channels=base_channels,
            norm_eval=False,
            init_cfg=None if pretrained is None else dict(type='Pretrained', checkpoint=pretrained),
        )
        widest = self.backbone.feat_dim
        self.neck = CLRFPN(in_channels=[widest // 4, widest // 2, widest], out_channels=64, num_outs=3)
        settings = dict(xyt_loss_weight=0.2, cls_loss=dict(type=SoftmaxFocalLoss)) | head
        self.head = CLRHead(img_h=self.input_hw[0], img_w=self.input_hw[1], num_classes_seg=1 + num_lanes, **settings)
        self.keep_priors()

    def keep_priors(self) -> None:
        """Makes the buffers with the priors those of the present weights, without a gradient.

        The head computes them in training alone: after a step of the optimizer, or with averaged weights, they would be
        of other weights, and with the graph that it leaves in them no model can be copied.
        """
        with torch.no_grad():
            self.head.priors, self.head.priors_on_featmap = self.head.generate_priors_from_embeddings()

    def stages_of(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns the maps of the four stages."""
        return tuple(self.backbone(images))

    def pyramid_of(self, stages: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Returns the pyramid of the last three stages; mmdet's neck would take the first three of four."""
        levels: tuple[Tensor, ...] = self.neck(stages[1:])
        return levels

    def forward(self, images: Tensor) -> Tensor:
        """Returns the predictions (B, P, 6 + R)."""
        predictions: Tensor = self.head(self.pyramid_of(self.stages_of(images)), None)
        return predictions


@MODELS.register_module()
class LaneCLRNet(BaseModel):
    """Priors of lanes that three refinements move to the lanes of an image: CLRNet, a strong modern detector.

    Neck, head, assignment and losses are mmdet's (onedl-mmdetection); targets, the classification loss, suppression and
    decoding are ours, since mmdet has no data set for them. The assignment keeps what looks like a slip: of a prior
    that two lanes take, only the entry of the first lane is cleared.

    Taps are `stage1` .. `stage4`. Mode 'tensor' returns the predictions (B, P, 6 + R) of the last refinement, 'loss'
    `loss_cls`, `loss_line`, `loss_iou`, `loss_seg`, 'predict' the samples with `pred_lanes`.

    Args:
        num_lanes: slots of the data; classes of the segmentation that helps in training. Lanes have no slot.
        input_hw: height and width of the image, multiples of 8.
        decoder: config of a `CLRDecoder`.
        data_preprocessor: config of a `LanePreprocessor`.
        depth, base_channels: of the ResNet.
        pretrained: a checkpoint of torchvision's ResNet of that depth; its names are those of the backbone.
        head: settings of mmdet's `CLRHead`, such as `num_priors`; the weight of start, angle and length is 0.2 [K].
        init_cfg: as of mmengine's class.

    Raises:
        InputError: `input_hw` or `depth` is invalid; images of another size; in training, samples without lanes or
            masks.
    """

    def __init__(
        self,
        num_lanes: int,
        input_hw: Sequence[int],
        decoder: dict[str, Any],
        data_preprocessor: dict[str, Any],
        depth: int = 18,
        base_channels: int = 64,
        pretrained: str | None = None,
        head: dict[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.net = CLRNetwork(num_lanes, input_hw, depth, base_channels, pretrained, head or {})
        self.decoder = TASK_UTILS.build(decoder)
        for name in STAGES:
            setattr(self, name, nn.Identity())

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Runs the network: mode 'tensor', 'loss' or 'predict'."""
        if mode not in ('tensor', 'loss', 'predict'):
            raise unknown_name('mode', mode, ('tensor', 'loss', 'predict'))
        stages = self.net.stages_of(checked_images(inputs['img'], self.net.input_hw))
        levels = self.net.pyramid_of(
            tuple(getattr(self, name)(stage) for name, stage in zip(STAGES, stages, strict=True))
        )
        if mode == 'loss':
            return self._losses_of(levels, data_samples)
        self.net.keep_priors()
        predictions = self.net.head(levels, None)
        if mode == 'tensor':
            return predictions
        samples = data_samples or [Det3DDataSample() for _ in predictions]
        for values, sample in zip(predictions, samples, strict=True):
            self.decoder.decode(values, self.net.input_hw, sample)
        return list(samples)

    def expected_data(self) -> ExpectedData:
        """Returns the number of slots, which are the classes of a data set of lanes."""
        return ExpectedData(num_classes=Stated('num_lanes', self.net.num_lanes), takes_points=False)

    def export_spec(self, read_sample: ReadSample) -> ExportSpec:
        """Returns what goes into the ONNX file: normalisation and network up to its head, before suppression."""
        self.net.keep_priors()
        head = self.net.head
        columns = FIELDS + head.n_offsets
        return ExportSpec(
            network=NormalisedNetwork(self, lambda predictions: (predictions,)),
            inputs=(example_image(self.net.input_hw),),
            outputs=('predictions',),
            contains=f'normalisation and network, with folded batch norms; output: predictions (1, {head.num_priors}, '
            f'{columns}): logits of background and lane, start y, start x, angle / pi, length, x of {head.n_offsets} '
            'rows from the bottom, as shares',
            before=BEFORE,
            after=f'lanes: suppression and polylines by {type(self.decoder).__name__} (models/lane/clr_decoder.py)',
        )

    def _losses_of(self, levels: tuple[Tensor, ...], samples: Any) -> dict[str, Tensor]:
        head = self.net.head
        batch = head_samples(samples or (), self.net.num_lanes, self.net.input_hw, head.n_offsets)
        losses = head.loss(levels, batch)
        self.net.keep_priors()
        # Numbers without a gradient where no image has a lane; every weight takes part in every step.
        parameters = [*head.reg_modules.parameters(), *head.reg_layers.parameters()]
        zero = torch.stack([value.sum() for value in parameters]).sum() * 0.0
        return {
            'loss_cls': losses['cls_loss'],
            'loss_line': losses['reg_xytl_loss'] + zero,
            'loss_iou': losses['iou_loss'] + zero,
            'loss_seg': losses['seg_loss'],
        }
