"""From points of a batch to voxels, on any device."""

from __future__ import annotations

from typing import Any

from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor

from perception3d.models.lidar_det import host_ops
from perception3d.registry import MODELS


@MODELS.register_module()
class LidarDataPreprocessor(Det3DDataPreprocessor):
    """mmdet3d's preprocessor in a process whose mmcv ops also run on the CPU (see `host_ops`).

    Every LiDAR config of this package has it, so that a detector never meets an op without a kernel. Voxels, their
    order and their truncation are those of mmcv. Arguments are those of mmdet3d's class.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        host_ops.install()
        super().__init__(*args, **kwargs)
