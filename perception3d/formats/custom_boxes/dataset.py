"""LiDAR-only frames for mmdet3d: a cloud and its boxes, no image, no calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perception3d.datasets.box_dataset import SingleFrameBoxDataset
from perception3d.evaluation.predictions import finite_boxes
from perception3d.formats.custom_boxes import FORMAT
from perception3d.formats.custom_boxes.files import require_result_file, write_labels
from perception3d.registry import DATASETS
from perception3d.structures.sample_schema import FRAME_KEYS, LIDAR_KEYS, MMDET3D_KEYS

POINT_META_KEYS = (*LIDAR_KEYS, *FRAME_KEYS, *MMDET3D_KEYS)
"""What `Pack3DDetInputs(meta_keys=...)` should keep of a frame; what a sample does not have is left out."""


@DATASETS.register_module()
class PointBoxDataset(SingleFrameBoxDataset):
    """Frames of clouds and boxes, from the info files of `tools/create_data.py custom-boxes`.

    A sample carries `frame_id` (the NAME of its files, also as `token`), `lidar_path` and `num_pts_feats`; with labels
    also `ann_info` in training and `eval_ann_info` in testing: gt_bboxes_3d as LiDARInstance3DBoxes, gt_labels_3d,
    num_lidar_pts. Boxes of classes that are not asked for are left out; `eval_ann_info` has their names as `left_out`.

    Arguments and errors are those of SingleFrameBoxDataset; the classes are those of the info file by default.
    """

    own_entries = ('ImageSets', 'points', 'labels', 'perception3d_*')
    format_names = (FORMAT.name, *FORMAT.aliases)
    result_suffix = '.txt'

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample."""
        names, sample = [box['name'] for box in info['instances']], super().parse_data_info(info)
        if 'eval_ann_info' in sample:
            sample['eval_ann_info']['left_out'] = [name for name in names if name not in self.metainfo['classes']]
        return sample

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes a result file: a label line with a score for each box.

        Raises:
            InputError: there is another file at `path`, which is not a result file.
        """
        require_result_file(path)
        predictions = finite_boxes(sample.get('pred_instances_3d'))
        names = [self.metainfo['classes'][label] for label in predictions.labels]
        write_labels(path, predictions.boxes, names, predictions.scores)
        return True
