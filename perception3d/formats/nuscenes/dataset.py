"""Multi-camera, multi-frame nuScenes for mmdet3d."""

from __future__ import annotations

import logging
import os.path as osp
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.datasets.det3d_dataset import Det3DDataset
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.logging import print_log

from perception3d.checks import InputError, unknown_name
from perception3d.datasets.box_dataset import BoxDataset
from perception3d.datasets.camera_frames import FRAME_SUFFIXES, read_infos, repeat_history
from perception3d.datasets.cloud_files import features_of_points
from perception3d.datasets.missing_cameras import CameraRig
from perception3d.datasets.object_count import NO_LIDAR_POINTS, NO_POINTS, OTHER_CLASS, ObjectCount, object_range
from perception3d.files import holds_frames, read_pickle
from perception3d.registry import DATASETS
from perception3d.structures.frame import Y_FORWARD
from perception3d.structures.sample_schema import MMDET3D_KEYS, camera_keys

LIDAR_META_KEYS = (
    'token', 'sample_idx', 'scene_token', 'timestamp', 'lidar_path', 'num_pts_feats', 'global_from_ego',
    'ego_from_lidar', 'lidar_axes', *MMDET3D_KEYS,
)  # fmt: skip
"""What `Pack3DDetInputs(meta_keys=...)` of a LiDAR detector should keep: nothing of the cameras."""


@DATASETS.register_module()
class MultiFrameNuScenesDataset(BoxDataset, NuScenesDataset):
    """Samples of six (or any number of) cameras, the current frame and history frames.

    Reads the info files of `tools/create_data.py nuscenes`; paths in them are relative to `data_root`. A sample has the
    keys of `structures.sample_schema`, also `lidar_points` and `lidar_sweeps`. Unlike the stock data set, velocities
    that nuScenes does not know stay NaN in gt_bboxes_3d[:, 7:9], so that a head can mask them, and samples without
    boxes are kept. For a camera that a sample lacks and others have, a black image is used (`missing_cameras`), so that
    samples of any batch have the same cameras.

    Args:
        data_root: The folder that holds `samples/` and `sweeps/`.
        ann_file: Info file, relative to data_root.
        num_frames: Frames a sample, the current one included; by default all that the info file has.
        offsets_s: The history frames by their nominal times, such as (-0.5, -1.5), instead of `num_frames`.
        cameras: Names of the cameras to use, in the order wanted; by default all, in the order of the infos.
        kwargs: As of mmdet3d's NuScenesDataset.

    Raises:
        InputError: The info file is missing, of another format, or does not have the frames or cameras asked for.
    """

    METAINFO: dict[str, Any] = NuScenesDataset.METAINFO
    lidar_axes = Y_FORWARD.text
    own_entries = ('samples', 'sweeps', 'maps', 'lidarseg', 'v1.0-*', 'perception3d_*')

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        num_frames: int | None = None,
        offsets_s: Sequence[float] | None = None,
        cameras: Sequence[str] | None = None,
        filter_empty_gt: bool = False,
        modality: dict[str, Any] | None = None,
        data_prefix: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if num_frames is not None and offsets_s is not None:
            raise InputError('give num_frames or offsets_s, not both')
        self.num_frames = num_frames
        self.offsets_s = None if offsets_s is None else tuple(offsets_s)
        self.cameras = None if cameras is None else tuple(cameras)
        self._rig = CameraRig([])
        self._chosen = (kwargs.get('metainfo') or {}).get('classes')
        # The base class knows the ten classes of the benchmark; an info file may have others, by name.
        self.METAINFO = {**self.METAINFO, 'classes': tuple(self._chosen or self.METAINFO['classes'])}
        super().__init__(
            data_root=data_root,
            ann_file=ann_file,
            filter_empty_gt=filter_empty_gt,
            modality=modality or dict(use_camera=True, use_lidar=True),
            data_prefix=data_prefix or dict(pts='', img=''),
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns the parsed samples of the info file; the version and split in it become part of `metainfo`."""
        hint = f'run: python tools/create_data.py nuscenes --root {self.data_root}'
        content = read_pickle(self.ann_file, hint)
        if not isinstance(content, dict) or not {'metainfo', 'data_list'} <= content.keys():
            raise InputError(f'{self.ann_file} is not an info file (a dict of metainfo and data_list): {hint}')
        infos, meta = content['data_list'], content['metainfo']
        if not infos:
            raise InputError(f'{self.ann_file} holds no samples: {hint}')
        if not holds_frames(infos, 'history'):
            raise InputError(f'{self.ann_file} has no history frames, it was made by another tool: {hint}')
        # The base class keeps METAINFO's version, which is v1.0-trainval whatever the file says.
        self._metainfo.update({key: meta[key] for key in ('version', 'split', 'dataset') if key in meta})
        self._take_classes(list(meta.get('categories', type(self).METAINFO['classes'])))
        if 'category_map' in meta:
            self._metainfo['category_map'] = meta['category_map']
        self._rig = CameraRig(infos, [[entry['images'] for entry in self._history(info)] for info in infos])
        for note in self._rig.notes(self._camera_names(infos[0])):
            print_log(f'{self.ann_file}: {note}', 'current', logging.WARNING)
        self.object_count = self._count_objects(infos, list(meta.get('categories', self.metainfo['classes'])))
        infos.reverse()
        # Taking each info off the list frees it: parsed samples are several times smaller.
        samples = [self.parse_data_info(infos.pop()) for _ in range(len(infos))]
        if not self.test_mode:
            for boxes, labels in ((s['ann_info']['gt_bboxes_3d'], s['ann_info']['gt_labels_3d']) for s in samples):
                self.object_count.add_places(boxes.tensor.numpy()[labels >= 0])
        return samples

    def _take_classes(self, names: list[str]) -> None:
        """Labels by the classes that were asked for, by default all of the info file, whose classes are `names`."""
        classes = tuple(self._chosen or names)
        for name in classes:
            if name not in names:
                raise unknown_name(f'class (of {self.ann_file})', name, names)
        self._metainfo['classes'] = classes
        self.label_mapping = {label: classes.index(n) if n in classes else -1 for label, n in enumerate(names)}
        self.label_mapping[-1] = -1
        self.num_ins_per_cat = [0] * len(classes)

    def _count_objects(self, infos: Sequence[dict[str, Any]], names: Sequence[str]) -> ObjectCount:
        """Counts the objects and those that `parse_ann_info` leaves out."""
        count = ObjectCount(self.ann_file, object_range(self.pipeline))
        without_points = NO_POINTS if self.use_valid_flag else NO_LIDAR_POINTS
        for instance in (instance for info in infos for instance in info['instances']):
            label = instance['bbox_label_3d']
            valid = instance['bbox_3d_isvalid'] if self.use_valid_flag else instance['num_lidar_pts'] > 0
            reason = OTHER_CLASS if self.label_mapping.get(label, -1) < 0 else None if valid else without_points
            count.add(names[label] if 0 <= label < len(names) else 'other', reason)
        return count

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample: absolute paths, flat image arrays, boxes in `ann_info` or `eval_ann_info`."""
        frames = [info['images'], *(entry['images'] for entry in self._history(info))]
        names = self._camera_names(info)
        # Loaded lazily, the data set knows no other sample.
        rig = self._rig if self._rig.names else CameraRig([info])
        views = {name: [frame.get(name) or rig.black_view(name) for frame in frames] for name in names}
        sample = {key: info[key] for key in ('sample_idx', 'token', 'scene_token', 'scene_name', 'timestamp')}
        sample.update(
            global_from_ego=np.array(info['ego2global']),
            lidar_axes=info.get('lidar_axes', self._metainfo['lidar_axes']),
            num_frames=len(frames),
            img_timestamps_s=np.array([views[name][i]['timestamp'] for i in range(len(frames)) for name in names]),
            **camera_keys(views, self.data_prefix.get('img', '')),
        )
        sample.update(self._lidar_fields(info))
        if 'lidar2ego' in info['lidar_points']:
            # A frame that a user describes may not say how its LiDAR is mounted.
            sample['ego_from_lidar'] = np.array(info['lidar_points']['lidar2ego'])
        if not self.test_mode:
            sample['ann_info'] = self.parse_ann_info(info)
        elif self.load_eval_anns:
            sample['eval_ann_info'] = self.parse_ann_info(info)
        return sample

    def parse_ann_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Returns boxes (M, 9) as LiDARInstance3DBoxes and labels (M,); unknown velocities are NaN.

        Boxes without LiDAR points are left out (or, with use_valid_flag, without LiDAR and radar points).
        """
        # The stock method of NuScenesDataset sets unknown velocities to zero, so its base is used.
        ann_info = Det3DDataset.parse_ann_info(self, info)
        if ann_info is None:
            boxes, labels = np.zeros((0, 9), np.float32), np.zeros(0, np.int64)
        else:
            ann_info = self._filter_with_mask(ann_info)
            boxes = np.concatenate([ann_info['gt_bboxes_3d'], ann_info['velocities']], -1)
            labels = ann_info['gt_labels_3d']
        boxes = boxes if self.with_velocity else boxes[:, :7]
        centred = LiDARInstance3DBoxes(boxes, box_dim=boxes.shape[-1], origin=(0.5, 0.5, 0.5))
        return {'gt_bboxes_3d': centred.convert_to(self.box_mode_3d), 'gt_labels_3d': labels}

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the sample of a frame described in JSON, the samples of an info file, or the one of a cloud.

        A frame has the history that the network takes: its oldest frame repeats where it has fewer. A cloud, for LiDAR
        detectors, is one sweep whose points all have the age 0 and of which neither pose nor cameras are known.

        Raises:
            InputError: as of `datasets.camera_frames.read_infos` and `datasets.cloud_files.cloud_sample`.
        """
        takes_clouds = features_of_points(self.pipeline) is not None
        if takes_clouds and Path(path).suffix not in FRAME_SUFFIXES:
            for sample in super().sample_from_file(path):
                yield {**sample, 'timestamp': 0.0, 'lidar_sweeps': []}
            return
        for info in read_infos(path):
            num_frames = self.num_frames or 1 + len(self.offsets_s or info['history'])
            yield self.parse_data_info(repeat_history(info, num_frames))

    def _history(self, info: dict[str, Any]) -> list[dict[str, Any]]:
        """Returns the history entries of an info that were asked for."""
        entries: list[dict[str, Any]] = info['history']
        available = [entry['offset_s'] for entry in entries]
        if self.offsets_s is not None:
            by_offset = dict(zip(available, entries))
            lacking = [offset for offset in self.offsets_s if offset not in by_offset]
            if lacking:
                raise InputError(f'{self.ann_file} has no history at {lacking} s, only {available}: {_REMAKE}')
            return [by_offset[offset] for offset in self.offsets_s]
        wanted = len(entries) if self.num_frames is None else self.num_frames - 1
        if not 0 <= wanted <= len(entries):
            raise InputError(
                f'num_frames is {self.num_frames}, but {self.ann_file} has 1 to {len(entries) + 1}: {_REMAKE}'
            )
        return entries[:wanted]

    def _camera_names(self, info: dict[str, Any]) -> list[str]:
        """Returns the cameras to use; InputError where neither the info nor another of the file has one of them."""
        known = self._rig.names or list(info['images'])
        names = list(self.cameras or known)
        for name in names:
            if name not in known:
                raise unknown_name(f'camera (sample {info["token"]} of {self.ann_file})', name, known)
        return names

    def _lidar_fields(self, info: dict[str, Any]) -> dict[str, Any]:
        """Returns lidar_path, num_pts_feats and lidar_sweeps, in which the paths are absolute."""
        prefix = self.data_prefix.get('pts', '')

        def located(points: dict[str, Any]) -> dict[str, Any]:
            return {**points, 'lidar_path': osp.join(prefix, points['lidar_path'])}

        points = located(info['lidar_points'])
        sweeps = [{**sweep, 'lidar_points': located(sweep['lidar_points'])} for sweep in info['lidar_sweeps']]
        return {
            'lidar_points': points,
            'lidar_path': points['lidar_path'],
            'num_pts_feats': points['num_pts_feats'],
            'lidar_sweeps': sweeps,
        }


_REMAKE = 'write it again with tools/create_data.py nuscenes --offsets ...'
