"""Scores of one's own lanes for mmengine's test loop, and the result file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.evaluation.lane_metric import LaneF1Metric, LaneResult, Polylines
from perception3d.files import write_bytes
from perception3d.formats.custom_lanes.files import format_line
from perception3d.registry import METRICS
from perception3d.structures.lanes import Lanes


@METRICS.register_module()
class CustomLanesMetric(LaneF1Metric):
    """F1 of lanes by CULane's rule, in images of any size.

    Results are `format_dir/lanes.json`, one line an image, which `tools/evaluate.py custom-lanes` reads. Bands 30
    pixels wide suit images about 1640 wide: give `width_px` for others. What a sample must have, the keys and the
    arguments are those of `LaneF1Metric`; samples also pack `img_paths`.
    """

    default_prefix = 'custom_lanes'

    def result_text(self, lanes: Lanes, sample: dict[str, Any]) -> str:
        """Returns the JSON line of an image."""
        image = f'{sample["frame_id"]}{Path(sample["img_paths"][0]).suffix}'
        return format_line(image, lanes.polylines, lanes.labels, lanes.scores)

    def parse_result(self, text: str) -> Polylines:
        """Returns the lanes of a line."""
        return [np.array(lane, np.float64).reshape(-1, 2) for lane in json.loads(text)['lanes']]

    def write_submission(self, folder: Path, results: list[LaneResult]) -> None:
        """Writes the file of all images."""
        write_bytes(folder / 'lanes.json', ''.join(result.text for result in results).encode())
