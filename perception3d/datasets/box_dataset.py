"""What the data sets of boxes share: the boxes of a frame by index, and how many objects are trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet3d.structures import LiDARInstance3DBoxes

from perception3d.checks import InputError
from perception3d.datasets.frame_dataset import FrameDataset, SingleFrameDataset
from perception3d.datasets.frame_infos import label_by_name
from perception3d.datasets.object_count import ObjectCount, count_labels, object_range


class BoxDataset(FrameDataset):
    """Frames with boxes: `gt_bboxes_3d` and `gt_labels_3d` of `ann_info` in training, of `eval_ann_info` in testing."""

    _has_boxes = True

    def get_ann_info(self, index: int) -> dict[str, Any]:
        """Returns boxes and labels of a frame, in training and in test mode.

        Raises:
            InputError: the frame is not labelled.
        """
        sample = self.get_data_info(index)
        key = 'eval_ann_info' if self.test_mode else 'ann_info'
        if key not in sample:
            raise InputError(f'frame {sample["token"]} of {self.ann_file} has no labels')
        return sample[key]

    def get_cat_ids(self, idx: int) -> set[int]:
        """Returns the labels in a frame, for wrappers that balance classes; those of untrained classes are left out."""
        return set(self.get_ann_info(idx)['gt_labels_3d'].tolist()) - {-1}


class SingleFrameBoxDataset(BoxDataset, SingleFrameDataset):
    """Frames with boxes that are known by an id, from the info files of `tools/create_data.py FORMAT`.

    Boxes of classes that are not asked for are left out. Frames without objects stay. With `filter_empty_gt`, which
    mmdet3d's data sets have by default, another frame takes the place of one without objects. A subclass sets
    `format_names`. An instance of an info has `name`, `bbox_3d` (7 or 9 numbers) and what else a metric needs.

    Arguments, attributes and errors are those of SingleFrameDataset.
    """

    def parse_infos(self, infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the samples of all infos of the file, and counts their objects as `object_count`."""
        classes = self.metainfo['classes']
        self.object_count: ObjectCount = count_labels(self.ann_file, infos, classes, object_range(self.pipeline))
        samples = super().parse_infos(infos)
        if not self.test_mode:
            for sample in samples:
                self.object_count.add_places(sample['ann_info']['gt_bboxes_3d'].tensor.numpy())
        return samples

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample."""
        label_by_name(info, self.metainfo['classes'])
        return super().parse_data_info(info)

    def parse_ann_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Returns the frame's boxes of the classes as arrays: gt_bboxes_3d, gt_labels_3d, and so on."""
        annotations = super().parse_ann_info(info)
        if annotations is None:
            annotations = {'gt_bboxes_3d': np.zeros((0, 7), np.float32), 'gt_labels_3d': np.zeros(0, np.int64)}
            annotations['num_lidar_pts'] = np.zeros(0, np.int64)
        annotations.pop('instances', None)
        if hasattr(annotations['gt_bboxes_3d'], 'tensor'):
            # A data set of mmdet3d has made them already.
            return annotations
        kept: dict[str, Any] = self._remove_dontcare(annotations)
        boxes = kept['gt_bboxes_3d']
        kept['gt_bboxes_3d'] = LiDARInstance3DBoxes(boxes, box_dim=boxes.shape[-1])
        return kept
