"""A model that finds lanes in an image, from any network with a segmentation of lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmdet3d.structures import Det3DDataSample
from mmengine.model import BaseModel
from torch import Tensor, nn

from perception3d.checks import unknown_name
from perception3d.models.lane.attention import attention_maps, names_of_stages
from perception3d.models.lane.export import lane_spec
from perception3d.models.lane.image_size import checked_images
from perception3d.models.lane.outputs import STAGES, LaneOutputs, LaneTargets, lane_targets
from perception3d.registry import MODELS, TASK_UTILS
from perception3d.structures.expected_data import ExpectedData, Stated
from perception3d.structures.export_spec import ExportSpec, ReadSample
from perception3d.structures.heatmaps import Heatmaps


@MODELS.register_module()
class LaneSegmentor(BaseModel):
    """Trains a lane network and predicts polylines.

    Each output of the network passes through a submodule of a fixed name, so that a distillation link can tap it in
    every network alike: `stage1` .. `stage4`, `seg_logits`, `exist_logits`, `embeddings`.

    Mode 'tensor' returns `LaneOutputs`, 'loss' the losses `loss_NAME`, 'predict' the samples with `pred_lanes`
    (`structures.lanes.Lanes` in pixels of the stored image, labels are slots), what else its decoder gives, and with
    `keep_attention` `pred_attention`, which pictures show.

    Args:
        net: config of a network: `net(images) -> LaneOutputs`, with the attributes `num_lanes` and `input_hw`.
        losses: name -> config of a loss `forward(outputs, targets)`, with `weight` (1.0).
        decoder: config of a decoder, `decode(outputs, sample)` of one image.
        data_preprocessor: config of a `LanePreprocessor`.
        agnostic: the network has one class for lanes of all slots, so that it is not compared with the classes of the
            data set.
        keep_attention: stages whose attention maps `predict` adds to its samples, True for all four: see
            `attention.attention_maps`.
        init_cfg: as of mmengine's class.

    Raises:
        InputError: images of another size than the network takes; a loss on an output that the network does not have;
            an unknown stage in `keep_attention`.
    """

    response_tap = 'seg_logits'
    """Where the logits are that pictures of `tools/compare.py` show."""

    def __init__(
        self,
        net: dict[str, Any],
        losses: Mapping[str, Mapping[str, Any]],
        decoder: dict[str, Any],
        data_preprocessor: dict[str, Any],
        agnostic: bool = False,
        keep_attention: bool | Sequence[str] = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.net: Any = MODELS.build(net)
        self.decoder = TASK_UTILS.build(decoder)
        self.agnostic = agnostic
        self.keep_attention = names_of_stages(keep_attention)
        self._weights = {name: float(loss.get('weight', 1.0)) for name, loss in losses.items()}
        self.losses = nn.ModuleDict()
        for name, loss in losses.items():
            self.losses[name] = MODELS.build({key: value for key, value in loss.items() if key != 'weight'})
        for name in (*STAGES, 'seg_logits', 'exist_logits', 'embeddings'):
            setattr(self, name, nn.Identity())

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Runs the network: mode 'tensor', 'loss' or 'predict'."""
        if mode not in ('tensor', 'loss', 'predict'):
            raise unknown_name('mode', mode, ('tensor', 'loss', 'predict'))
        images = checked_images(inputs['img'], self.net.input_hw)
        if mode == 'loss':
            # First, as their check waits for the device, which has nothing to do yet.
            targets = lane_targets(data_samples or (), self.net.num_lanes, self.agnostic)
            return self._losses_of(self._tapped(self.net(images)), targets)
        outputs = self._tapped(self.net(images))
        if mode == 'tensor':
            return outputs
        samples = data_samples or [Det3DDataSample() for _ in inputs['img']]
        for k, sample in enumerate(samples):
            self.decoder.decode(outputs.of_sample(k), sample)
            if self.keep_attention:
                sample.pred_attention = attention_maps(outputs, k, sample, self.keep_attention)
        return list(samples)

    def expected_data(self) -> ExpectedData:
        """Returns the number of slots of the network, which are the classes of a data set of lanes."""
        count = None if self.agnostic else Stated('net.num_lanes', int(self.net.num_lanes))
        return ExpectedData(num_classes=count, takes_points=False)

    def explain_weights(self, state: Mapping[str, Tensor]) -> str | None:
        """Returns what to do about weights of this network for other lanes or another input; None of other weights."""
        own = self.state_dict()
        other = [name for name, value in own.items() if name in state and state[name].shape != value.shape]
        if not other or own.keys() != state.keys():
            return None
        name = other[0]
        return (
            f'{name} is {tuple(state[name].shape)} in it and {tuple(own[name].shape)} here: it is of the same network '
            f'for another number of lanes (here {self.net.num_lanes}) or another size of the input (here '
            f'{self.net.input_hw[1]} x {self.net.input_hw[0]}): use the config that it was trained with'
        )

    def export_spec(self, read_sample: ReadSample) -> ExportSpec:
        """Returns what goes into the ONNX file: the network from an image to its logits."""
        return lane_spec(self)

    def response_map(self, logits: Tensor) -> Heatmaps:
        """Returns the probability of the most likely lane in every pixel of the network's image.

        Args:
            logits: (1 + L, H, W) of one image, background first.
        """
        lanes = logits.detach().float().softmax(0)[1:].amax(0)
        return Heatmaps(lanes.cpu().numpy()[None])

    def _tapped(self, outputs: LaneOutputs) -> LaneOutputs:
        stages = tuple(getattr(self, name)(stage) for name, stage in zip(STAGES, outputs.stages, strict=True))
        rest = {name: getattr(outputs, name) for name in ('seg_logits', 'exist_logits', 'embeddings')}
        return LaneOutputs(
            stages, **{name: getattr(self, name)(value) for name, value in rest.items() if value is not None}
        )

    def _losses_of(self, outputs: LaneOutputs, targets: LaneTargets) -> dict[str, Tensor]:
        return {f'loss_{name}': self._weights[name] * loss(outputs, targets) for name, loss in self.losses.items()}
