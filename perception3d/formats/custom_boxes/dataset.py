"""LiDAR-only frames for mmdet3d: a cloud and its boxes, no image, no calibration."""

from __future__ import annotations

import os.path as osp
from typing import Any

import numpy as np
from mmdet3d.datasets.det3d_dataset import Det3DDataset
from mmdet3d.structures import LiDARInstance3DBoxes

from perception3d.checks import InputError
from perception3d.datasets.frame_infos import label_by_name, read_frame_infos, require_classes
from perception3d.datasets.object_count import count_labels, object_range
from perception3d.datasets.pipeline_steps import check_class_lists
from perception3d.formats.custom_boxes import FORMAT
from perception3d.registry import DATASETS
from perception3d.structures.frame import X_FORWARD

POINT_META_KEYS = (
    'frame_id', 'token', 'sample_idx', 'lidar_path', 'num_pts_feats', 'box_type_3d', 'box_mode_3d',
    'pcd_horizontal_flip', 'pcd_vertical_flip', 'pcd_rotation', 'pcd_rotation_angle', 'pcd_scale_factor', 'pcd_trans',
    'transformation_3d_flow', 'flip', 'lidar_axes',
)  # fmt: skip
"""What `Pack3DDetInputs(meta_keys=...)` should keep of a frame; what a sample does not have is left out."""


@DATASETS.register_module()
class PointBoxDataset(Det3DDataset):
    """Frames of clouds and boxes, from the info files of `tools/create_data.py custom-boxes`.

    A sample carries `frame_id` (the NAME of its files, also as `token`), `lidar_path` and `num_pts_feats`; with labels
    also `ann_info` in training and `eval_ann_info` in testing: gt_bboxes_3d as LiDARInstance3DBoxes, gt_labels_3d,
    num_lidar_pts. Boxes of classes that are not asked for are left out; `eval_ann_info` has their names as `left_out`.
    Frames without objects stay. With `filter_empty_gt`, which mmdet3d's data sets have by default, another frame takes
    the place of one without objects.

    Args:
        data_root: the folder that holds ImageSets, points and labels.
        ann_file: info file, relative to data_root.
        metainfo: dict(classes=...), the order of the labels; by default the classes of the info file.
        kwargs: as of mmdet3d's Det3DDataset.

    Raises:
        InputError: the info file is missing or another tool's, or does not know a class; training without labels.
    """

    METAINFO = {**Det3DDataset.METAINFO, 'lidar_axes': X_FORWARD.text}
    """`lidar_axes`: how the LiDAR frame lies, in words; `metainfo=dict(lidar_axes=...)` states another."""

    own_entries = ('ImageSets', 'points', 'labels', 'perception3d_*')
    """What of `data_root` belongs to the format; results are not written there (see `engine/data_kept.py`)."""

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        metainfo: dict[str, Any] | None = None,
        data_prefix: dict[str, str] | None = None,
        modality: dict[str, bool] | None = None,
        filter_empty_gt: bool = False,
        **kwargs: Any,
    ) -> None:
        metainfo = dict(metainfo or {})
        if 'classes' not in metainfo:
            content = read_frame_infos(osp.join(data_root, ann_file), FORMAT.name, data_root, FORMAT.aliases)
            metainfo['classes'] = tuple(content['metainfo']['categories'])
        # The base class looks up numbers of classes here; the infos have names.
        self.METAINFO = {'classes': tuple(metainfo['classes'])}
        super().__init__(
            data_root=data_root,
            ann_file=ann_file,
            metainfo=metainfo,
            data_prefix=data_prefix or dict(pts=''),
            modality=modality or dict(use_lidar=True, use_camera=False),
            filter_empty_gt=filter_empty_gt,
            **kwargs,
        )
        check_class_lists(self.ann_file, self.pipeline, self.metainfo['classes'])

    def load_data_list(self) -> list[dict]:
        """Returns the parsed frames of the info file."""
        content = read_frame_infos(self.ann_file, FORMAT.name, self.data_root, FORMAT.aliases)
        require_classes(self.ann_file, self.metainfo['classes'], content)
        if not self.test_mode and not all(info['labelled'] for info in content['data_list']):
            raise InputError(f'{self.ann_file} has frames without labels: train on another split, or set test_mode')
        self._metainfo.update({key: content['metainfo'][key] for key in ('dataset', 'split')})
        infos, classes = content['data_list'], self.metainfo['classes']
        self.object_count = count_labels(self.ann_file, infos, classes, object_range(self.pipeline))
        samples = [self.parse_data_info(info) for info in infos]
        if not self.test_mode:
            for sample in samples:
                self.object_count.add_places(sample['ann_info']['gt_bboxes_3d'].tensor.numpy())
        return samples

    def parse_data_info(self, info: dict) -> dict:
        """Turns one info into a sample."""
        label_by_name(info, self.metainfo['classes'])
        sample = super().parse_data_info(info)
        sample['token'] = info['frame_id']
        sample['lidar_axes'] = self._metainfo['lidar_axes']
        if not info['labelled']:
            sample.pop('eval_ann_info', None)
        elif 'eval_ann_info' in sample:
            others = [box['name'] for box in info['instances'] if box['bbox_label_3d'] < 0]
            sample['eval_ann_info']['left_out'] = others
        del sample['instances']
        return sample

    def parse_ann_info(self, info: dict) -> dict:
        """Returns the frame's boxes of the classes as arrays."""
        ann_info = super().parse_ann_info(info)
        if ann_info is None:
            ann_info = {'gt_bboxes_3d': np.zeros((0, 7), np.float32), 'gt_labels_3d': np.zeros(0, np.int64)}
            ann_info['num_lidar_pts'] = np.zeros(0, np.int64)
        ann_info = self._remove_dontcare(ann_info)
        ann_info.pop('instances', None)
        ann_info['gt_bboxes_3d'] = LiDARInstance3DBoxes(ann_info['gt_bboxes_3d'])
        return ann_info

    def get_ann_info(self, index: int) -> dict:
        """Returns boxes and labels of a frame in training or test mode."""
        sample = self.get_data_info(index)
        key = 'eval_ann_info' if self.test_mode else 'ann_info'
        if key not in sample:
            raise InputError(f'frame {sample["frame_id"]} of {self.ann_file} has no labels')
        return sample[key]

    def get_cat_ids(self, idx: int) -> set[int]:
        """Returns the labels in a frame, for wrappers that balance classes."""
        return set(self.get_ann_info(idx)['gt_labels_3d'].tolist())
