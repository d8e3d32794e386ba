"""KITTI frames for mmdet3d, known by their ids and with the camera that the benchmark's scores need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets import KittiDataset

from perception3d.datasets.box_dataset import SingleFrameBoxDataset
from perception3d.formats.kitti.files import image_hw, read_calibration, require_result_file, write_objects
from perception3d.formats.kitti.info import InfoSettings
from perception3d.formats.kitti.results import CAMERA_OF_RESULTS, predicted_objects
from perception3d.formats.kitti.rules import CLASSES
from perception3d.registry import DATASETS
from perception3d.structures.sample_schema import CAMERA_KEYS, FRAME_KEYS, LIDAR_KEYS, MMDET3D_KEYS, camera_keys

FRAME_META_KEYS = (*CAMERA_KEYS, *LIDAR_KEYS, *FRAME_KEYS, *MMDET3D_KEYS)
"""What `Pack3DDetInputs(meta_keys=...)` should keep of a frame; what a sample does not have is left out."""


@DATASETS.register_module()
class KittiFrameDataset(SingleFrameBoxDataset, KittiDataset):
    """Frames of a KITTI tree, from the info files of `tools/create_data.py kitti`.

    A sample has the keys of `structures.sample_schema`: `frame_id` ('000123', also as `token`), `lidar_path`, and of
    one camera, `image_2`, its image, `cam_from_lidar` to the rectified camera 0, `stored_from_cam` from there to pixels
    of camera 2, and `img_from_lidar`, their product; with labels also `ann_info` in training and `eval_ann_info` in
    testing. Its boxes are LiDARInstance3DBoxes (x, y, z of the bottom, l, w, h, yaw).
    DontCare and classes that are not asked for are left out.

    Arguments and errors are those of SingleFrameBoxDataset; the classes are Pedestrian, Cyclist, Car by default.
    """

    METAINFO = {**KittiDataset.METAINFO, **SingleFrameBoxDataset.METAINFO}
    own_entries = ('ImageSets', 'training', 'testing', 'perception3d_*')
    format_names = ('kitti',)
    default_classes = CLASSES
    result_suffix = '.txt'

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample; only camera 2 is kept of its cameras."""
        camera = info['images']['CAM2']
        info['images'] = {'CAM2': camera}
        # With modality=dict(use_camera=True) the base class completes the path in `camera`, for steps of mmdet3d.
        keys = _camera_keys(camera, self.data_prefix.get('img', ''))
        return {**super().parse_data_info(info), **keys}

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
                cam_from_lidar, img_from_cam = calibration.cam_from_lidar(), calibration.img_from_cam()
                image = cloud.parents[1] / 'image_2' / f'{cloud.stem}.png'
                height, width = image_hw(image) if image.is_file() else InfoSettings().image_hw
                camera = {
                    'img_path': str(image) if image.is_file() else '',
                    'lidar2cam': cam_from_lidar,
                    'cam2img': img_from_cam,
                    'lidar2img': img_from_cam @ cam_from_lidar,
                    'height': height,
                    'width': width,
                }
                sample.update(_camera_keys(camera))
            else:
                sample['without_camera'] = True
            yield sample

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the benchmark's result file of a sample with a calibration; boxes outside the image are left out.

        Raises:
            InputError: there is another file at `path`, which is not a result file.
        """
        if any(sample.get(key) is None for key in CAMERA_OF_RESULTS):
            return False
        require_result_file(path)
        objects, in_image, _ = predicted_objects(sample, self.metainfo['classes'])
        write_objects(path, objects.select(in_image))
        return True


def _camera_keys(camera: dict[str, Any], folder: str = '') -> dict[str, Any]:
    """Returns the keys of a sample for camera 2, which is described as in an info file."""
    # No step changes the image.
    img_from_lidar = np.array(camera['lidar2img'])[None]
    return {**camera_keys({'image_2': [camera]}, folder), 'img_from_lidar': img_from_lidar, 'only_ahead': True}
