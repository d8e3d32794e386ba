"""A model that gives each point of a cloud a class, from a network on voxels, points or both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from mmdet3d.structures import Det3DDataSample, PointData
from mmengine.model import BaseModel
from torch import Tensor, nn

from perception3d.checks import InputError, unknown_name
from perception3d.models.lidar_seg.convert import ORIGINS, guess_kind
from perception3d.models.lidar_seg.voxels import VoxelBatch
from perception3d.registry import MODELS
from perception3d.structures.conversion import Conversion
from perception3d.structures.expected_data import ExpectedData, Stated
from perception3d.structures.export_spec import ExportSpec, ReadSample
from perception3d.structures.point_labels import IGNORE


@dataclass(frozen=True)
class SegOutputs:
    """What a network gives for the M voxels and P points of a batch; None for what it does not have.

    Attributes:
        voxel_features: (M, C), what the voxel classifier reads.
        voxel_logits: (M, K).
        point_features: (P, C), what the point classifier reads.
        point_logits: (P, K).
    """

    voxel_features: Tensor | None = None
    voxel_logits: Tensor | None = None
    point_features: Tensor | None = None
    point_logits: Tensor | None = None


@MODELS.register_module()
class PointSegmentor(BaseModel):
    """Trains a network on labelled points and predicts a class for each point.

    Each output of the network passes through a submodule of the same name, `voxel_features`, `voxel_logits`,
    `point_features` and `point_logits`, so that a distillation link can tap it in every network alike.

    Mode 'tensor' returns `SegOutputs`, 'loss' the losses `loss_NAME`, 'predict' the samples with
    `pred_pts_seg.pts_semantic_mask` (N,) int64. Inputs without the voxels of the preprocessor raise an InputError.

    Args:
        net: config of a network: `net(voxels) -> SegOutputs`, with the attribute `num_classes`.
        losses: name -> config of a loss on logits and labels, with `of` ('voxel' or 'point') and `weight` (1.0).
        data_preprocessor: config of a `PointSegPreprocessor`.
        predict_from: 'voxel' or 'point': whose logits give the classes of points. The refinement branch of Cylinder3D
            is only trained; its published predictions are those of voxels.
        init_cfg: as of mmengine's class.

    Attributes:
        keep_logits: whether predicted samples also have `pts_seg_logits.pts_seg_logits` (K, N), as those of mmdet3d's
            segmentors; test-time augmentation sets it.

    Raises:
        InputError: a name in `of` or `predict_from` is neither.
    """

    def __init__(
        self,
        net: dict[str, Any],
        losses: Mapping[str, Mapping[str, Any]],
        data_preprocessor: dict[str, Any],
        predict_from: str = 'voxel',
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.net: Any = MODELS.build(net)
        self.keep_logits = False
        self.predict_from = _level('predict_from', predict_from)
        self._levels = {name: _level(f'losses.{name}.of', loss.get('of')) for name, loss in losses.items()}
        self._weights = {name: float(loss.get('weight', 1.0)) for name, loss in losses.items()}
        self.losses = nn.ModuleDict()
        for name, loss in losses.items():
            self.losses[name] = MODELS.build({k: v for k, v in loss.items() if k not in ('of', 'weight')})
        for field in fields(SegOutputs):
            setattr(self, field.name, nn.Identity())

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Runs the network: mode 'tensor', 'loss' or 'predict'."""
        if mode not in ('tensor', 'loss', 'predict'):
            raise unknown_name('mode', mode, ('tensor', 'loss', 'predict'))
        if 'voxels' not in inputs:
            raise InputError(
                "inputs have no 'voxels': set data_preprocessor to a PointSegPreprocessor with a partition, and pass "
                'data through it'
            )
        voxels: VoxelBatch = inputs['voxels']
        outputs = self._tapped(self.net(voxels))
        if mode == 'tensor':
            return outputs
        if mode == 'loss':
            return self._losses_of(outputs, voxels, data_samples)
        return self._predicted(outputs, voxels, data_samples)

    def point_logits_of(self, outputs: SegOutputs, voxels: VoxelBatch) -> Tensor:
        """Returns the logits (P, K) by which points are classified: their own, or those of their voxels."""
        if self.predict_from == 'voxel' and outputs.voxel_logits is not None:
            return outputs.voxel_logits[voxels.point_to_voxel]
        return self._required(outputs, self.predict_from, f'predict_from={self.predict_from!r}')

    def convert_weights(self, state: Mapping[str, Tensor], kind: str | None = None) -> Conversion:
        """Fits a checkpoint from elsewhere to the network: what `tools/convert_weights.py` asks for.

        Raises:
            InputError: the network cannot convert any, or the checkpoint does not fit.
        """
        if not hasattr(self.net, 'convert_weights'):
            raise InputError(
                f'{type(self.net).__name__} has no method convert_weights: there are no weights to convert'
            )
        result: Conversion = self.net.convert_weights(state, kind)
        state = OrderedDict((f'net.{name}', value) for name, value in result.state.items())
        # mmdet3d takes sparse weights without a version for those of spconv 1, and would turn them.
        state._metadata = self.state_dict()._metadata  # type: ignore[attr-defined]  # torch keeps it there
        result.state = state
        return result

    def explain_weights(self, state: Mapping[str, Tensor]) -> str | None:
        """Returns what to do about weights that do not fit, where they are of a known kind; None otherwise."""
        kind = guess_kind(state)
        if kind is not None:
            return f'it is one of {ORIGINS[kind]}: convert it with tools/convert_weights.py'
        own, count = self.state_dict(), self.net.num_classes
        wider = [
            name
            for name in own
            if name in state and own[name].shape[:1] == (count,) and state[name].shape[:1] == (count + 1,)
        ]
        if not wider:
            return None
        return (
            f'its head has {count + 1} outputs ({wider[0]}), one of them for ignored points, and the head of this '
            f'config has the {count} classes alone: convert a released checkpoint with tools/convert_weights.py, or '
            'train again'
        )

    def expected_data(self) -> ExpectedData:
        """Returns the number of classes of the network."""
        return ExpectedData(num_classes=Stated('net.num_classes', self.net.num_classes))

    def export_spec(self, read_sample: ReadSample) -> ExportSpec:
        """Returns what goes into the ONNX file of the model, which its network says.

        Raises:
            InputError: the network has no method `export_spec`.
        """
        spec = getattr(self.net, 'export_spec', None)
        if spec is None:
            raise InputError(
                f'{type(self.net).__name__} cannot be exported: sparse convolutions have no ONNX operator; '
                'RangePointNet can be exported'
            )
        result: ExportSpec = spec(self.data_preprocessor.partition, self.predict_from == 'voxel')
        return result

    def _tapped(self, outputs: SegOutputs) -> SegOutputs:
        values = {field.name: getattr(outputs, field.name) for field in fields(SegOutputs)}
        taps = {name: getattr(self, name)(value) for name, value in values.items() if value is not None}
        return SegOutputs(**taps)

    def _required(self, outputs: SegOutputs, level: str, who: str) -> Tensor:
        logits: Tensor | None = getattr(outputs, f'{level}_logits')
        if logits is None:
            raise InputError(
                f'{who} reads {level} logits, but {type(self.net).__name__} of this config gives none: give it the '
                f'{level} branch, or read the other logits'
            )
        return logits

    def _losses_of(self, outputs: SegOutputs, voxels: VoxelBatch, samples: Any) -> dict[str, Tensor]:
        if voxels.point_labels is None:
            raise InputError(
                'a sample of the batch has no gt_pts_seg.pts_semantic_mask: load point labels in the training pipeline'
            )
        _check_labels(voxels, self.net.num_classes, samples)
        labels = {'voxel': voxels.voxel_labels, 'point': voxels.point_labels}
        losses = {}
        for name, loss in self.losses.items():
            logits = self._required(outputs, self._levels[name], f'losses.{name}')
            losses[f'loss_{name}'] = self._weights[name] * loss(logits, labels[self._levels[name]])
        return losses

    def _predicted(self, outputs: SegOutputs, voxels: VoxelBatch, samples: Any) -> list[Any]:
        samples = samples or [Det3DDataSample() for _ in voxels.point_counts]
        if self.predict_from == 'voxel' and outputs.voxel_logits is not None:
            # The class of a voxel, then of its points: fewer rows than the logits of points.
            classes = outputs.voxel_logits.argmax(1)[voxels.point_to_voxel]
        else:
            classes = self.point_logits_of(outputs, voxels).argmax(1)
        for sample, own in zip(samples, classes.split(list(voxels.point_counts)), strict=True):
            sample.pred_pts_seg = PointData(pts_semantic_mask=own)
        if self.keep_logits:
            logits = self.point_logits_of(outputs, voxels).split(list(voxels.point_counts))
            for sample, own in zip(samples, logits, strict=True):
                sample.pts_seg_logits = PointData(pts_seg_logits=own.T)
        return list(samples)


def _level(place: str, name: Any) -> str:
    if name not in ('voxel', 'point'):
        raise InputError(f"{place} is {name!r}: expected 'voxel' or 'point'")
    return str(name)


def _check_labels(voxels: VoxelBatch, num_classes: int, samples: Sequence[Any] | None) -> None:
    """Raises InputError where a label is neither a class nor `IGNORE`; names the file."""
    labels = voxels.point_labels
    assert labels is not None, 'the caller has looked'
    wrong = ((labels < 0) | (labels >= num_classes)) & (labels != IGNORE)
    if not bool(wrong.any()):
        return
    number = int(voxels.point_batch[wrong][0])
    values = torch.unique(labels[wrong & (voxels.point_batch == number)]).tolist()
    name = (samples[number].metainfo.get('lidar_path') if samples else None) or f'sample {number} of the batch'
    raise InputError(
        f'{name}: its point labels hold {", ".join(map(str, values[:5]))}, but the network has {num_classes} classes: '
        f'expected 0 to {num_classes - 1}, or {IGNORE} for points without a label; compare the classes of data set and '
        'model'
    )
