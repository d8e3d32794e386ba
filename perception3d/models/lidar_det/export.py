"""ONNX files of LiDAR detectors: the part of a pillar detector that is made of dense maps.

The detectors are mmdet3d's own classes, which have no method `export_spec`: they are registered here instead.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from mmdet3d.models.detectors import CenterPoint, PointRCNN, VoxelNet
from mmdet3d.models.middle_encoders import PointPillarsScatter
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.models.inference.acceleration import fold_batch_norms
from perception3d.structures.export_spec import ExportInput, ExportSpec, ReadSample, spec_of_class


class DensePart(nn.Module):
    """Backbone, neck and head: from the map of pillars (B, C, ny, nx) to the head's raw maps, a tuple of tensors.

    A copy of the parts with folded batch norms.

    Args:
        scatter: writes pillars into the map, which gives its shape.
        parts: backbone, neck and head.
    """

    def __init__(self, scatter: PointPillarsScatter, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.shape = (1, scatter.in_channels, scatter.ny, scatter.nx)
        self.backbone, self.neck, self.head = (fold_batch_norms(copy.deepcopy(part).eval()) for part in parts)

    def forward(self, canvas: Tensor) -> tuple[Tensor, ...]:
        """Returns the head's maps in the order of `output_names`."""
        return tuple(tensor for _, tensor in self._named(canvas))

    @torch.no_grad()
    def output_names(self) -> list[str]:
        """Returns a name for each output.

        The names that the head gives its maps (a NamedTuple), task and quantity for CenterPoint, else scores, boxes and
        directions.
        """
        device = next(self.parameters()).device
        return [name for name, _ in self._named(torch.zeros(self.shape, device=device))]

    def _named(self, canvas: Tensor) -> list[tuple[str, Tensor]]:
        results = self.head(self.neck(self.backbone(canvas)))
        if hasattr(results, '_asdict'):
            return list(_distinct(results._asdict().items()))
        if isinstance(results[0][0], dict):
            return [(f'task{k}_{key}', value) for k, (task,) in enumerate(results) for key, value in task.items()]
        quantities = ('scores', 'boxes', 'directions')
        many = len(results[0]) > 1
        return [
            (f'{quantity}{level}' if many else quantity, tensor)
            for quantity, levels in zip(quantities, results)
            for level, tensor in enumerate(levels)
        ]


def _distinct(fields: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of named maps, those of tuples with their number; a map of two names once."""
    seen: set[int] = set()
    for name, value in fields:
        for k, tensor in enumerate(value if isinstance(value, tuple) else (value,)):
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield f'{name}{k}' if isinstance(value, tuple) else name, tensor


@spec_of_class.register(VoxelNet)
@spec_of_class.register(PointRCNN)
def _of_plain_names(model: nn.Module, read_sample: ReadSample) -> ExportSpec:
    return _dense_spec(model, '')


@spec_of_class.register(CenterPoint)
def _of_point_names(model: nn.Module, read_sample: ReadSample) -> ExportSpec:
    return _dense_spec(model, 'pts_')


def _dense_spec(model: nn.Module, prefix: str) -> ExportSpec:
    """Returns the specification of a detector whose parts have names with `prefix`; InputError if it is not dense."""
    scatter = getattr(model, f'{prefix}middle_encoder', None)
    if not isinstance(scatter, PointPillarsScatter):
        raise InputError(
            f'{type(model).__name__} has no map of pillars and cannot be exported: only detectors on pillars '
            '(PointPillars, CenterPoint with pillars) have a dense part; sparse convolutions and operations on points '
            'have no ONNX operator'
        )
    part = DensePart(scatter, [getattr(model, f'{prefix}{name}') for name in ('backbone', 'neck', 'bbox_head')]).eval()
    pillars = torch.rand(part.shape, generator=torch.Generator().manual_seed(0))
    meaning = 'float32 map of pillar features (batch, channels, y, x), zeros where no pillar is'
    return ExportSpec(
        network=part,
        inputs=(ExportInput('pillars', pillars, meaning),),
        outputs=tuple(part.output_names()),
        contains='backbone, neck and head of the detector, with folded batch norms',
        before='points to pillars, pillar features (voxel_encoder), and writing them into the map (middle_encoder)',
        after='decoding of the maps into boxes, score threshold and NMS (predict_by_feat of the head)',
    )
