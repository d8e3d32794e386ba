"""KITTI frames for mmdet3d, known by their ids and with the camera that the benchmark's scores need."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets import KittiDataset

from perception3d.datasets.frame_dataset import SingleFrameDataset
from perception3d.formats.kitti.files import image_hw, read_calibration, require_result_file, write_objects
from perception3d.formats.kitti.info import InfoSettings
from perception3d.formats.kitti.results import predicted_objects
from perception3d.formats.kitti.rules import CLASSES
from perception3d.registry import DATASETS

FRAME_META_KEYS = (
    'frame_id', 'token', 'sample_idx', 'lidar_path', 'num_pts_feats', 'lidar2cam', 'cam2img', 'lidar2img', 'image_hw',
    'img_path', 'box_type_3d', 'box_mode_3d', 'pcd_horizontal_flip', 'pcd_vertical_flip', 'pcd_rotation',
    'pcd_rotation_angle', 'pcd_scale_factor', 'pcd_trans', 'transformation_3d_flow', 'flip', 'lidar_axes',
)  # fmt: skip
"""What `Pack3DDetInputs(meta_keys=...)` should keep of a frame; what a sample does not have is left out."""


@DATASETS.register_module()
class KittiFrameDataset(SingleFrameDataset, KittiDataset):
    """Frames of a KITTI tree, from the info files of `tools/create_data.py kitti`.

    A sample carries `frame_id` ('000123', also as `token`), `lidar_path`, `lidar2cam` (4, 4) to the rectified camera 0,
    `cam2img` (4, 4) of camera 2, `lidar2img` their product, `image_hw` and `img_path`; with labels also `ann_info` in
    training and `eval_ann_info` in testing. Its boxes are LiDARInstance3DBoxes (x, y, z of the bottom, l, w, h, yaw).
    DontCare and classes that are not asked for are never boxes.

    Arguments and errors are those of SingleFrameDataset; the classes are Pedestrian, Cyclist, Car by default.
    """

    METAINFO = {**KittiDataset.METAINFO, **SingleFrameDataset.METAINFO}
    own_entries = ('ImageSets', 'training', 'testing', 'perception3d_*')
    format_names = ('kitti',)
    default_classes = CLASSES
    result_suffix = '.txt'

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample; only camera 2 is kept of its cameras."""
        camera = info['images']['CAM2']
        info['images'] = {'CAM2': camera}
        info['img_path'] = osp.join(self.data_prefix.get('img', ''), camera['img_path'])
        sample = super().parse_data_info(info)
        sample.update(
            lidar2cam=np.array(camera['lidar2cam']),
            cam2img=np.array(camera['cam2img']),
            lidar2img=np.array(camera['lidar2img']),
            image_hw=(camera['height'], camera['width']),
        )
        return sample

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the sample of a cloud, with its camera where that lies next to it.

        `../calib/ID.txt` and `../image_2/ID.png` of the tree are read, where ID is the name of the cloud. Both may be
        missing: without a calibration there is no camera, and the network gets all points; without an image the camera
        has KITTI's usual size.

        Raises:
            InputError: as of `datasets.cloud_files.cloud_sample`; the calibration or the image cannot be read.
        """
        for sample in super().sample_from_file(path):
            cloud = Path(sample['lidar_path'])
            calibration_path = cloud.parents[1] / 'calib' / f'{cloud.stem}.txt'
            if calibration_path.is_file():
                calibration = read_calibration(calibration_path)
                lidar2cam, cam2img = calibration.cam_from_lidar(), calibration.img_from_cam()
                image = cloud.parents[1] / 'image_2' / f'{cloud.stem}.png'
                seen = {'img_path': str(image), 'image_hw': image_hw(image)} if image.is_file() else {}
                sample.update(
                    lidar2cam=lidar2cam,
                    cam2img=cam2img,
                    lidar2img=cam2img @ lidar2cam,
                    **{'image_hw': InfoSettings().image_hw, **seen},
                )
            else:
                sample['without_camera'] = True
            yield sample

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the benchmark's result file of a sample with a calibration; a box that the image misses is left out.

        Raises:
            InputError: there is another file at `path`, which is not a result file.
        """
        if any(sample.get(key) is None for key in ('lidar2cam', 'cam2img', 'image_hw')):
            return False
        require_result_file(path)
        objects, seen, _ = predicted_objects(sample, self.metainfo['classes'])
        write_objects(path, objects.pick(seen))
        return True
