"""What the data sets of lanes share: one image a sample, its polylines, and results of one image."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.datasets.frame_dataset import SingleFrameDataset
from perception3d.datasets.lane_files import images_of
from perception3d.files import write_bytes
from perception3d.structures.base import Structure
from perception3d.structures.lanes import Lanes

_PATHS = ('lane_mask_path', 'depth_path', 'semantic_path')
_COPIED = ('sample_idx', 'frame_id', 'category', 'h_samples', 'steering_rad', 'scene_token', 'scene_name', 'timestamp')


class LaneDataset(SingleFrameDataset):
    """Images with lanes, from the info files of `tools/create_data.py FORMAT`.

    An info has `frame_id` (the path of the image relative to the root without its suffix), `labelled`, `images`
    (`front` with `img_path`, `height`, `width`), and of labelled images `lanes`, `lane_slots`, `lane_exist`; further
    keys are those of `structures.sample_schema.LANE_KEYS`; paths are relative to data_root. A sample has the same with
    whole paths, and in testing `eval_ann_info` with `lanes`, and where known `category`, `h_samples`, `lane_mask_path`.

    The classes are the slots of lanes, left to right. A subclass sets `format_names`, `result_suffix`, where they are
    fixed `default_classes`, and has `result_of`.

    Arguments are those of SingleFrameDataset.

    Raises:
        InputError: as of SingleFrameDataset; classes other than the slots of the info file.
    """

    def _read(self, root: str, path: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        content, self._slots = super()._read(root, path)
        return content, self._slots

    def parse_infos(self, infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the samples of all infos of the file, whose slots are the classes."""
        if tuple(self.metainfo['classes']) != self._slots:
            raise InputError(
                f'{self.ann_file} has lanes of the slots {", ".join(self._slots)}, but metainfo the classes '
                f'{", ".join(self.metainfo["classes"])}: slots are numbers in masks, leave metainfo out'
            )
        return super().parse_infos(infos)

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample."""
        ((name, image),) = info['images'].items()
        sample: dict[str, Any] = {
            'token': info['frame_id'],
            # The folder of a clip, whose pictures `--video` joins.
            'scene_token': osp.dirname(info['frame_id']),
            'cam_names': [name],
            'img_paths': [osp.join(self.data_root, image['img_path'])],
            'stored_hw': [(image['height'], image['width'])],
            **{key: info[key] for key in _COPIED if key in info},
            **{key: osp.join(self.data_root, info[key]) for key in _PATHS if info.get(key)},
        }
        if not info['labelled']:
            return sample
        lanes = [np.asarray(lane, np.float64).reshape(-1, 2) for lane in info['lanes']]
        sample.update(
            lanes=lanes,
            lane_slots=np.asarray(info['lane_slots'], np.int64),
            lane_exist=np.asarray(info['lane_exist'], np.int64),
        )
        if self.test_mode:
            kept = ('category', 'h_samples', 'lane_mask_path')
            sample['eval_ann_info'] = {'lanes': lanes, **{key: sample[key] for key in kept if key in sample}}
        return sample

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the samples of an image, of the images in a folder by name, or of the frames of a video in order.

        Raises:
            InputError: as of `datasets.lane_files.images_of`.
        """
        return images_of(path)

    def read_annotations(self, info: Mapping[str, Any]) -> dict[str, Structure]:
        """Returns the lanes of a stored sample that can be drawn, those of two points or more."""
        return {'gt_lanes': drawn_lanes(info)} if 'lanes' in info else {}

    def result_of(self, lanes: Lanes, metas: Mapping[str, Any]) -> bytes | None:
        """Returns the content of the result file of one image: a subclass knows it.

        Args:
            lanes: the predicted ones, pixels of the stored image.
            metas: of the sample.
        """
        return None

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the result file of a predicted sample.

        Raises:
            InputError: the file lies next to an image of the same name: it is an annotation and would be lost.
        """
        lanes = sample.get('pred_lanes')
        content = None if lanes is None else self.result_of(lanes, sample.metainfo)
        if content is None:
            return False
        path, suffix = Path(path), self.result_suffix or ''
        if path.with_name(path.name.removesuffix(suffix) + '.jpg').is_file():
            raise InputError(f'{path} would be an annotation next to its image: choose another folder for results')
        write_bytes(path, content)
        return True

    def get_cat_ids(self, idx: int) -> set[int]:
        """Returns the slots that have a lane in an image."""
        return set(np.flatnonzero(self.get_data_info(idx).get('lane_exist', ())).tolist())


def drawn_lanes(sample: Mapping[str, Any]) -> Lanes:
    """Returns the lanes of a sample of two points or more, labels are slots."""
    kept = [k for k, lane in enumerate(sample['lanes']) if len(lane) > 1]
    return Lanes(tuple(sample['lanes'][k] for k in kept), np.asarray(sample['lane_slots'], np.int64)[kept])
