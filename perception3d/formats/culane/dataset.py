"""CULane's images with four lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perception3d.datasets.lane_dataset import LaneDataset
from perception3d.formats.culane import FORMAT
from perception3d.formats.culane.files import LINES_SUFFIX, SLOTS, format_lines
from perception3d.registry import DATASETS
from perception3d.structures.lanes import Lanes


@DATASETS.register_module()
class CULaneDataset(LaneDataset):
    """Images of CULane, from the info files of `tools/create_data.py culane`.

    `frame_id` is such as 'driver_37_30frame/05181432_0203.MP4/00020'. Samples of the test split have a `category`. A
    result is a `.lines.txt`. Arguments are those of LaneDataset.
    """

    own_entries = ('driver_*', 'list', 'laneseg_label_*', 'annotations_*', 'extra', 'perception3d_*')
    results_named_as_annotations = True
    format_names = (FORMAT.name,)
    default_classes = SLOTS
    result_suffix = LINES_SUFFIX

    def result_of(self, lanes: Lanes, metas: Mapping[str, Any]) -> bytes:
        """Returns the `.lines.txt` of one image."""
        return format_lines(lanes.polylines).encode()
