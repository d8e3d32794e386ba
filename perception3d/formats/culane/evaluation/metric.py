"""CULane's scores for mmengine's test loop, and the result files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perception3d.evaluation.lane_metric import LaneF1Metric, LaneResult, Polylines
from perception3d.files import write_bytes
from perception3d.formats.culane.files import LINES_SUFFIX, format_lines, parse_lines
from perception3d.registry import METRICS
from perception3d.structures.lanes import Lanes


@METRICS.register_module()
class LaneCULaneMetric(LaneF1Metric):
    """CULane's F1, in total and by category, by the rules of its official tool.

    The result of an image is `format_dir/<frame_id>.lines.txt`. What a sample must have, the keys and the arguments are
    those of `LaneF1Metric`. (mmdet has a metric of the name CULaneMetric.)
    """

    default_prefix = 'culane'

    def result_text(self, lanes: Lanes, sample: dict[str, Any]) -> str:
        """Returns the `.lines.txt` of an image."""
        return format_lines(lanes.polylines)

    def parse_result(self, text: str) -> Polylines:
        """Returns the lanes of a `.lines.txt`."""
        return list(parse_lines(text))

    def write_submission(self, folder: Path, results: list[LaneResult]) -> None:
        """Writes a file for each image."""
        for result in results:
            write_bytes(folder / f'{result.frame_id}{LINES_SUFFIX}', result.text.encode())
