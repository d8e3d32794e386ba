"""KITTI frames for mmdet3d, known by their ids and with the camera that the benchmark's scores need."""

from __future__ import annotations

import os.path as osp
from typing import Any

import numpy as np
from mmdet3d.datasets import KittiDataset

from perception3d.checks import InputError
from perception3d.datasets.frame_infos import label_by_name, read_frame_infos, require_classes
from perception3d.datasets.object_count import count_labels, object_range
from perception3d.datasets.pipeline_steps import check_class_lists
from perception3d.formats.kitti.files import CLASSES
from perception3d.registry import DATASETS
from perception3d.structures.frame import X_FORWARD

FRAME_META_KEYS = (
    'frame_id', 'token', 'sample_idx', 'lidar_path', 'num_pts_feats', 'lidar2cam', 'cam2img', 'lidar2img', 'image_hw',
    'img_path', 'box_type_3d', 'box_mode_3d', 'pcd_horizontal_flip', 'pcd_vertical_flip', 'pcd_rotation',
    'pcd_rotation_angle', 'pcd_scale_factor', 'pcd_trans', 'transformation_3d_flow', 'flip', 'lidar_axes',
)  # fmt: skip
"""What `Pack3DDetInputs(meta_keys=...)` should keep of a frame; what a sample does not have is left out."""


@DATASETS.register_module()
class KittiFrameDataset(KittiDataset):
    """Frames of a KITTI tree, from the info files of `tools/create_data.py kitti`.

    A sample carries `frame_id` ('000123', also as `token`), `lidar_path`, `lidar2cam` (4, 4) to the rectified camera 0,
    `cam2img` (4, 4) of camera 2, `lidar2img` their product, `image_hw` and `img_path`; with labels also `ann_info` in
    training and `eval_ann_info` in testing. Its boxes are LiDARInstance3DBoxes (x, y, z of the bottom, l, w, h, yaw).
    DontCare and classes that are not asked for are never boxes. Frames without objects stay. With
    `filter_empty_gt`, which mmdet3d's class has by default, another frame takes the place of one without objects.

    Args:
        data_root: the folder that holds ImageSets, training and testing.
        ann_file: info file, relative to data_root.
        metainfo: dict(classes=...) for other classes than Pedestrian, Cyclist, Car.
        kwargs: as of mmdet3d's KittiDataset.

    Raises:
        InputError: the info file is missing or another tool's, or does not know a class; training without labels.
    """

    METAINFO = {**KittiDataset.METAINFO, 'lidar_axes': X_FORWARD.text}
    """`lidar_axes`: how the LiDAR frame lies, in words; `metainfo=dict(lidar_axes=...)` states another."""

    own_entries = ('ImageSets', 'training', 'testing', 'perception3d_*')
    """What of `data_root` belongs to the format; results are not written there (see `engine/data_kept.py`)."""

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        metainfo: dict[str, Any] | None = None,
        data_prefix: dict[str, str] | None = None,
        filter_empty_gt: bool = False,
        **kwargs: Any,
    ) -> None:
        metainfo = {'classes': CLASSES, **(metainfo or {})}
        # The base class looks up numbers of classes here, of which it knows eight; the infos have names.
        self.METAINFO = {'classes': tuple(metainfo['classes'])}
        super().__init__(
            data_root=data_root,
            ann_file=ann_file,
            metainfo=metainfo,
            data_prefix=data_prefix or dict(pts='', img=''),
            filter_empty_gt=filter_empty_gt,
            **kwargs,
        )
        check_class_lists(self.ann_file, self.pipeline, self.metainfo['classes'])

    def load_data_list(self) -> list[dict]:
        """Returns the parsed frames of the info file."""
        content = read_frame_infos(self.ann_file, 'kitti', self.data_root)
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
        """Turns one info into a sample; only camera 2 is kept of its cameras."""
        camera = info['images']['CAM2']
        info['images'] = {'CAM2': camera}
        info['img_path'] = osp.join(self.data_prefix.get('img', ''), camera['img_path'])
        label_by_name(info, self.metainfo['classes'])
        sample = super().parse_data_info(info)
        if not info['labelled']:
            sample.pop('eval_ann_info', None)
        sample.update(
            token=info['frame_id'],
            lidar_axes=self._metainfo['lidar_axes'],
            lidar2cam=np.array(camera['lidar2cam']),
            cam2img=np.array(camera['cam2img']),
            lidar2img=np.array(camera['lidar2img']),
            image_hw=(camera['height'], camera['width']),
        )
        # They are in ann_info as arrays, and a data set of thousands of frames should not hold them twice.
        del sample['instances']
        return sample

    def parse_ann_info(self, info: dict) -> dict:
        """Returns the frame's boxes of the classes as arrays: gt_bboxes_3d, gt_labels_3d, difficulty, and so on."""
        ann_info = super().parse_ann_info(info)
        ann_info.pop('instances', None)
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
