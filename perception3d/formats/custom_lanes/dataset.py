"""One's own images with lanes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perception3d.datasets.lane_dataset import LaneDataset
from perception3d.formats.custom_lanes import FORMAT
from perception3d.formats.custom_lanes.files import format_line
from perception3d.registry import DATASETS
from perception3d.structures.lanes import Lanes


@DATASETS.register_module()
class CustomLanesDataset(LaneDataset):
    """Images of one's own, from the info files of `tools/create_data.py custom-lanes`.

    The classes are the slots of the info file. A result is one JSON line, as in the files of lanes, with `scores`.
    Arguments are those of LaneDataset.
    """

    own_entries = ('images', 'masks', 'train.json', 'val.json', 'trainval.json', 'test.json', 'perception3d_*')
    format_names = (FORMAT.name,)
    result_suffix = '.lanes.json'

    def result_of(self, lanes: Lanes, metas: Mapping[str, Any]) -> bytes:
        """Returns the JSON line of one image."""
        image = metas['frame_id'] + Path(metas['img_paths'][0]).suffix
        return format_line(image, lanes.polylines, lanes.labels, lanes.scores).encode()
