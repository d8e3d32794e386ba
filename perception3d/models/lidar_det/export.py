"""The part of a pillar detector that is made of dense maps, as one network for other runtimes."""

from __future__ import annotations

import copy

import torch
from mmdet3d.models.detectors import CenterPoint, VoxelNet
from mmdet3d.models.middle_encoders import PointPillarsScatter
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.models.inference.acceleration import fold_batch_norms


class DensePart(nn.Module):
    """Backbone, neck and head: from the map of pillars (B, C, ny, nx) to the head's raw maps, a tuple of tensors.

    A copy of the detector's parts with folded batch norms. Points to pillars before it and boxes after it are gathers
    and sorts, which every runtime does its own way.

    Raises:
        InputError: the detector has no dense map of pillars, for instance because it is sparse or works on points.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        prefix = 'pts_' if isinstance(detector, CenterPoint) else ''
        scatter = getattr(detector, f'{prefix}middle_encoder', None)
        if not isinstance(detector, (VoxelNet, CenterPoint)) or not isinstance(scatter, PointPillarsScatter):
            raise InputError(
                f'{type(detector).__name__} cannot be exported: only detectors on pillars (PointPillars, CenterPoint '
                'with pillars) have a dense part; sparse convolutions and operations on points have no ONNX operator'
            )
        self.shape = (1, scatter.in_channels, scatter.ny, scatter.nx)
        parts = [getattr(detector, f'{prefix}{name}') for name in ('backbone', 'neck', 'bbox_head')]
        self.backbone, self.neck, self.head = (fold_batch_norms(copy.deepcopy(part).eval()) for part in parts)

    def forward(self, canvas: Tensor) -> tuple[Tensor, ...]:
        """Returns the head's maps in the order of `output_names`."""
        return tuple(tensor for _, tensor in self._named(canvas))

    @torch.no_grad()
    def output_names(self) -> list[str]:
        """Returns a name for each output: task and quantity for CenterPoint, else scores, boxes and directions."""
        device = next(self.parameters()).device
        return [name for name, _ in self._named(torch.zeros(self.shape, device=device))]

    def _named(self, canvas: Tensor) -> list[tuple[str, Tensor]]:
        results = self.head(self.neck(self.backbone(canvas)))
        if isinstance(results[0][0], dict):
            return [(f'task{k}_{key}', value) for k, (task,) in enumerate(results) for key, value in task.items()]
        kinds = ('scores', 'boxes', 'directions')
        many = len(results[0]) > 1
        return [
            (f'{kind}{level}' if many else kind, tensor)
            for kind, levels in zip(kinds, results)
            for level, tensor in enumerate(levels)
        ]
