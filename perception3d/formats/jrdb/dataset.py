"""JRDB frames for mmdet3d: the clouds of two LiDARs in the frame of the robot, people, and people who are ignored."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from perception3d.checks import require_file
from perception3d.datasets.box_dataset import SingleFrameBoxDataset
from perception3d.datasets.crowd_annotations import crowd_annotations
from perception3d.evaluation.predictions import finite_boxes
from perception3d.formats.jrdb import FORMAT
from perception3d.formats.jrdb.clouds import read_points_of
from perception3d.formats.jrdb.files import frame_of_boxes, require_result_file, write_frame
from perception3d.formats.jrdb.info import cloud_entry, read_lidars
from perception3d.formats.jrdb.rules import CLASSES
from perception3d.registry import DATASETS
from perception3d.structures.sample_schema import FRAME_KEYS, LIDAR_KEYS, MMDET3D_KEYS

ROBOT_META_KEYS = ('lidar_points', *LIDAR_KEYS, *FRAME_KEYS, *MMDET3D_KEYS)
"""What `Pack3DDetInputs(meta_keys=...)` should keep of a frame; what a sample does not have is left out."""


@DATASETS.register_module()
class JrdbDataset(SingleFrameBoxDataset):
    """Frames of JRDB, from the info files of `tools/create_data.py jrdb`.

    A sample has `token` and `frame_id` ('bytes-cafe-2019-02-07_0_000123'), `scene_token` (its sequence), `timestamp`,
    and both clouds in `lidar_points`, which LoadRobotPoints merges. The stitched image is a cylinder, so there is no
    camera. With labels it has the annotations of `datasets.crowd_annotations`: people with fewer than 10 points or
    further than 25 m are `ignored_bboxes_3d`, as in the benchmark.

    Arguments and errors are those of SingleFrameBoxDataset; the class is `person` by default.
    """

    own_entries = (
        'pointclouds', 'labels', 'calibration', 'images', 'timestamps', 'detections', 'odometry', 'perception3d_*',
    )  # fmt: skip
    format_names = (FORMAT.name,)
    default_classes = CLASSES
    result_suffix = '.txt'

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample."""
        sample: dict[str, Any] = super().parse_data_info(info)
        folder = self.data_prefix.get('pts', '')
        for part in sample['lidar_points'].get('parts', ()):
            part['path'] = osp.join(folder, part['path'])
        sample.pop('ignored', None)
        return sample

    def parse_ann_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Returns the people of a frame, and those who are ignored."""
        return crowd_annotations(super().parse_ann_info(info), info.get('ignored', ()))

    def read_points(self, info: Mapping[str, Any]) -> npt.NDArray[Any] | None:
        """Returns the clouds of both LiDARs of a stored sample in the frame of the robot, (N, 4)."""
        return read_points_of(info['lidar_points'])

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the sample of a cloud in the frame of the robot, `.bin` or `.npy`, or of one of the upper LiDAR.

        The latter is a `.pcd` of a tree, `pointclouds/upper_velodyne/SEQ/NAME.pcd`: the cloud of the lower LiDAR and
        the calibration are found there. Any other `.pcd` is taken as it is.

        Raises:
            InputError: as of `datasets.cloud_files.cloud_sample`; the calibration cannot be read.
        """
        if Path(path).suffix != '.pcd':
            yield from super().sample_from_file(path)
            return
        cloud = require_file(path).resolve()
        token, root = cloud.stem, cloud.parents[min(3, len(cloud.parents) - 1)]
        sample: dict[str, Any] = {'sample_idx': 0, 'lidar_axes': self._metainfo['lidar_axes']}
        if cloud.parent.parent.name == 'upper_velodyne' and (root / 'calibration').is_dir():
            entry = cloud_entry(str(cloud.relative_to(root)), str(root), read_lidars(root))
            token = f'{cloud.parent.name}_{cloud.stem}'
            sample['scene_token'] = cloud.parent.name
        else:
            entry = {'lidar_path': str(cloud), 'num_pts_feats': 4}
        yield {
            **sample,
            'frame_id': token,
            'token': token,
            'lidar_points': {**entry, 'may_be_empty': True},
            'lidar_path': str(cloud),
            'num_pts_feats': 4,
        }

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the benchmark's text file of a sample, without 2D boxes.

        Raises:
            InputError: there is another file at `path`, which is not a result file.
        """
        require_result_file(path)
        found = finite_boxes(sample.get('pred_instances_3d'), str(sample.get('token')))
        write_frame(path, frame_of_boxes(found.boxes, found.scores))
        return True
