"""From points of a batch to voxels, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor
from torch import Tensor

from perception3d.compat import lidar_ops_on_cpu
from perception3d.registry import MODELS


@MODELS.register_module()
class LidarDataPreprocessor(Det3DDataPreprocessor):
    """mmdet3d's preprocessor in a process whose mmcv ops also run on the CPU (see `lidar_ops_on_cpu`).

    Every LiDAR config of this package has it, so that a detector never meets an op without a kernel. Voxels, their
    order and their truncation are those of mmcv.

    Args:
        point_cloud_range: x0, y0, z0, x1, y1, z1 in metres, for detectors without voxels: a cloud without a point in it
            counts as a cloud without points. The clouds of a batch stay as long as they were, since such detectors
            stack them.
        args, kwargs: as of mmdet3d's class.
    """

    # What the benchmark compares it with.
    upstream_class: ClassVar[type] = Det3DDataPreprocessor

    def __init__(self, *args: Any, point_cloud_range: Sequence[float] | None = None, **kwargs: Any) -> None:
        lidar_ops_on_cpu.install()
        super().__init__(*args, **kwargs)
        self.point_cloud_range = point_cloud_range

    def simple_process(self, data: dict, training: bool = False) -> dict:
        """Returns the batch on the device of the model, with its voxels."""
        if self.point_cloud_range is not None and 'points' in data['inputs']:
            clouds = [self._cloud_in_range(cloud) for cloud in data['inputs']['points']]
            data = {**data, 'inputs': {**data['inputs'], 'points': clouds}}
        return super().simple_process(data, training)

    def _cloud_in_range(self, cloud: Tensor) -> Tensor:
        low, high = torch.as_tensor(self.point_cloud_range, dtype=cloud.dtype, device=cloud.device).split(3)
        inside = (cloud[:, :3] >= low) & (cloud[:, :3] < high)
        return cloud if inside.all(1).any() else cloud[:0]


@MODELS.register_module()
class TwoFrameDataPreprocessor(LidarDataPreprocessor):
    """Gives a detector of two frames the voxels of each: points of LoadPreviousCloud, whose last number is their age.

    Next to `points` and `voxels` of the present frames, without ages, a batch has `previous_points` and
    `previous_voxels` of those samples that have a frame before, in their order (None where none has), and `interval_s`
    (B,), seconds between the two, NaN for the others. Arguments are those of the base class, `voxel=True`.
    """

    def simple_process(self, data: dict, training: bool = False) -> dict:
        """Returns the batch on the device of the model."""
        clouds = data['inputs']['points']
        present = [cloud[cloud[:, -1] <= 0, :-1].contiguous() for cloud in clouds]
        batch = super().simple_process({**data, 'inputs': {**data['inputs'], 'points': present}}, training)
        device = batch['inputs']['points'][0].device
        earlier = [cloud[cloud[:, -1] > 0] for cloud in clouds]
        ages = [float(cloud[0, -1]) if len(cloud) else float('nan') for cloud in earlier]
        previous = [cloud[:, :-1].contiguous().to(device) for cloud in earlier if len(cloud)]
        batch['inputs'].update(
            interval_s=torch.tensor(ages, device=device),
            previous_points=previous,
            previous_voxels=self.voxelize(previous, None) if previous else None,
        )
        return batch
