"""From the samples of a batch to its voxels, once for every network that reads them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.lidar_seg.voxels import voxelise
from perception3d.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class PointSegPreprocessor(BaseDataPreprocessor):
    """Moves points and labels to the device and makes the voxels of the batch.

    A batch becomes `inputs = {'points': [(N_b, F), ..], 'voxels': VoxelBatch}`. Teacher and student with equal
    preprocessors get the same one.

    Args:
        partition: config of a `Partition`.
        ignore_wins: as of `voxelise`.
        non_blocking: as of mmengine's class.

    Raises:
        InputError: a cloud without points, or with another number of labels; names its file.
    """

    def __init__(self, partition: dict[str, Any], ignore_wins: bool = False, non_blocking: bool | None = False) -> None:
        super().__init__(non_blocking)
        self.partition = TASK_UTILS.build(partition)
        self.ignore_wins = ignore_wins
        self._warned = False

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Returns the batch on the device of the model, with its voxels."""
        data = self.cast_data(data)
        clouds, samples = data['inputs']['points'], data.get('data_samples')
        labels = _labels_of(samples)
        for k, cloud in enumerate(clouds):
            if not len(cloud):
                raise InputError(f'{_name(samples, k)} has no points: check the file, or take it out of the data set')
            if labels is not None and len(labels[k]) != len(cloud):
                raise InputError(f'{_name(samples, k)} has {len(cloud)} points, but {len(labels[k])} labels')
            self._warn_of_points_outside(cloud, samples, k)
        voxels = voxelise(self.partition, clouds, labels, self.ignore_wins)
        return {'inputs': {'points': list(clouds), 'voxels': voxels}, 'data_samples': samples}

    def _warn_of_points_outside(self, cloud: Tensor, samples: Any, k: int) -> None:
        """Warns once of a cloud that lies outside the grid as a whole, such as one in other units or another frame."""
        if not self._warned and bool(self.partition.is_outside(cloud).all()):
            self._warned = True
            print_log(
                f'all points of {_name(samples, k)} are outside the grid of the model and count as points of its '
                'border: check units, frame and range',
                'current',
                logging.WARNING,
            )


def _labels_of(samples: Sequence[Any] | None) -> list[Tensor] | None:
    """Returns the labels (N_b,) int64 of each sample; None unless all have some."""
    labels = [getattr(getattr(sample, 'gt_pts_seg', None), 'pts_semantic_mask', None) for sample in samples or ()]
    known = [values.long() for values in labels if values is not None]
    return known if known and len(known) == len(labels) else None


def _name(samples: Sequence[Any] | None, k: int) -> str:
    """Returns the file of sample k, or its number in the batch."""
    return str((samples[k].metainfo.get('lidar_path') if samples else None) or f'cloud {k} of the batch')
