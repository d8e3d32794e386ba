"""LLAMAS' images with four lanes."""

from __future__ import annotations

import os.path as osp
from collections.abc import Mapping
from typing import Any

import numpy as np

from perception3d.datasets.lane_dataset import LaneDataset
from perception3d.formats.culane.files import LINES_SUFFIX, format_lines
from perception3d.formats.llamas import FORMAT
from perception3d.formats.llamas.files import SLOTS, label_lanes, read_label
from perception3d.registry import DATASETS
from perception3d.structures.lanes import Lanes


@DATASETS.register_module()
class LlamasDataset(LaneDataset):
    """Images of LLAMAS, from the info files of `tools/create_data.py llamas`.

    `frame_id` is such as 'color_images/valid/RECORDING/1419283521_0744236000_color_rect'. Lanes have a point for each
    row, and are read from the label file when a sample is taken: those of all images would fill the memory. A result is
    a `.lines.txt`.

    Arguments are those of LaneDataset.
    """

    own_entries = ('color_images', 'grayscale_images', 'labels', 'perception3d_*')
    format_names = (FORMAT.name,)
    default_classes = SLOTS
    result_suffix = LINES_SUFFIX

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample, whose lanes `get_data_info` reads."""
        sample = super().parse_data_info({**info, 'lanes': [], 'lane_slots': []})
        if info.get('label_path'):
            sample['label_path'] = osp.join(self.data_root, info['label_path'])
        return sample

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns a sample for the pipeline.

        Raises:
            InputError: as of `files.read_label`.
        """
        sample: dict[str, Any] = super().get_data_info(idx)
        if 'label_path' in sample:
            lanes, slots = label_lanes(read_label(sample['label_path']))
            sample.update(lanes=lanes, lane_slots=np.array(slots, np.int64))
            if 'eval_ann_info' in sample:
                sample['eval_ann_info'] = {**sample['eval_ann_info'], 'lanes': lanes}
        return sample

    def result_of(self, lanes: Lanes, metas: Mapping[str, Any]) -> bytes:
        """Returns the `.lines.txt` of one image."""
        return format_lines(lanes.polylines).encode()
