"""TuSimple's images with up to six lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perception3d.datasets.lane_dataset import LaneDataset
from perception3d.formats.tusimple import FORMAT
from perception3d.formats.tusimple.files import SLOTS, default_rows, format_line, raw_file_of
from perception3d.registry import DATASETS
from perception3d.structures.lanes import Lanes


@DATASETS.register_module()
class TuSimpleDataset(LaneDataset):
    """Images of TuSimple, from the info files of `tools/create_data.py tusimple`.

    `frame_id` is such as 'clips/0530/1492626047222176976_0/20'; samples have `h_samples`. A result is one JSON line, in
    which `run_time` is 0: it is not measured. Arguments are those of LaneDataset.
    """

    own_entries = ('clips', 'label_data_*', 'test_*', 'segGT6', 'list6', 'seg_label', 'perception3d_*')
    format_names = (FORMAT.name,)
    default_classes = SLOTS
    result_suffix = '.lanes.json'

    def result_of(self, lanes: Lanes, metas: Mapping[str, Any]) -> bytes:
        """Returns the JSON line of one image: in its own rows, else in those of TuSimple."""
        rows = metas.get('h_samples') or default_rows(metas['stored_hw'][0][0])
        return format_line(raw_file_of(metas), lanes.polylines, rows).encode()
