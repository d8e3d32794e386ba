"""nuScenes-lidarseg: keyframes of a nuScenes tree with a label for each point."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from perception3d.checks import InputError
from perception3d.datasets.point_label_dataset import PointLabelDataset, predicted_labels
from perception3d.formats.nuscenes_lidarseg import FORMAT
from perception3d.formats.nuscenes_lidarseg.files import (
    CLASSES,
    class_ids,
    lidarseg_encoding,
    write_result_file,
)
from perception3d.registry import DATASETS
from perception3d.structures.frame import Y_FORWARD
from perception3d.structures.label_encoding import LabelEncoding


@DATASETS.register_module()
class NuScenesLidarsegDataset(PointLabelDataset):
    """Keyframes from the info files of `tools/create_data.py nuscenes-lidarseg`, named by the token of their cloud.

    A point is x, y, z (metres), intensity (0 to 255) and ring (0 to 31). A sample has what `PointLabelDataset` gives,
    and the times and poses with which `LoadUnlabelledSweeps` adds earlier sweeps.

    Args:
        panoptic: labels come from Panoptic nuScenes, so that points have objects (`pts_instance_mask`) as well.
        kwargs: as of PointLabelDataset.

    Raises:
        InputError: as of PointLabelDataset; with `panoptic` also where the tree has no panoptic labels.
    """

    lidar_axes = Y_FORWARD.text
    format_names = (FORMAT.name,)
    default_classes = CLASSES
    own_entries = ('samples', 'sweeps', 'maps', 'lidarseg', 'panoptic', 'v1.0-*', 'perception3d_*')
    result_suffix = '_lidarseg.bin'

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        metainfo: dict[str, Any] | None = None,
        panoptic: bool = False,
        **kwargs: Any,
    ) -> None:
        self.panoptic = panoptic
        super().__init__(data_root=data_root, ann_file=ann_file, metainfo=metainfo, **kwargs)

    def label_encoding(self) -> LabelEncoding:
        """Returns how the label files of the tree are read: its category.json gives the categories their ids."""
        return self._encoding

    @cached_property
    def _encoding(self) -> LabelEncoding:
        category_index = self.info_metainfo.get('category_index', {})
        return lidarseg_encoding(category_index, self.ann_file, tuple(self.metainfo['classes']), self.panoptic)

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample; the paths of sweeps become absolute as well."""
        # mmdet3d expects another layout of them.
        sweeps = info.pop('lidar_sweeps', [])
        if self.panoptic and info['labelled']:
            if 'pts_instance_mask_path' not in info:
                raise InputError(
                    f'{self.ann_file}: frame {info["frame_id"]} has no panoptic labels: unpack Panoptic nuScenes and '
                    f'run tools/create_data.py {FORMAT.name} again, or leave out panoptic=True'
                )
            info['pts_semantic_mask_path'] = info['pts_instance_mask_path']
        info.pop('pts_instance_mask_path', None)
        sample = super().parse_data_info(info)
        prefix = self.data_prefix.get('pts', '')
        for sweep in sweeps:
            cloud = sweep['lidar_points']
            sweep['lidar_points'] = {**cloud, 'lidar_path': osp.join(prefix, cloud['lidar_path'])}
        sample['lidar_sweeps'] = sweeps
        return sample

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the sample of a cloud, `.pcd.bin`, `.bin` or `.npy` without labels: one sweep of age 0.

        Raises:
            InputError: as of `datasets.cloud_files.cloud_sample`.
        """
        for sample in super().sample_from_file(path):
            name = sample['token'].removesuffix('.pcd')
            yield {**sample, 'frame_id': name, 'token': name, 'timestamp': 0.0, 'lidar_sweeps': []}

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the `_lidarseg.bin` of a predicted sample: ids 1 to 16, of several sweeps for the keyframe's points.

        Raises:
            InputError: a label is not one of a class, or the file there is not a result file.
        """
        labels = predicted_labels(sample)
        if labels is None:
            return False
        write_result_file(path, class_ids(labels, str(path), self.metainfo['classes']))
        return True
