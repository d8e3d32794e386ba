"""LLAMAS' score of lanes for mmengine's test loop, and the result files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perception3d.evaluation.lane_f1 import LaneCounts, count_lanes
from perception3d.evaluation.lane_metric import LaneF1Metric, LaneResult, Polylines
from perception3d.files import write_bytes
from perception3d.formats.culane.files import LINES_SUFFIX, format_lines, parse_lines
from perception3d.formats.llamas.evaluation.folders import FIRST_ROW
from perception3d.formats.llamas.files import IMAGE_SUFFIX, SIZE_WH
from perception3d.registry import METRICS
from perception3d.structures.lanes import Lanes


@METRICS.register_module()
class LlamasMetric(LaneF1Metric):
    """F1 of lanes by CULane's rule on 1276 x 717 pixels, annotated ones from row 300 on.

    The result of an image is `format_dir/RECORDING/LABEL.lines.txt`, which `tools/evaluate.py llamas` reads. What a
    sample must have, the keys and the arguments are those of `LaneF1Metric`. Average precision is scored of files
    alone: it needs probabilities, which the models do not give.
    """

    default_prefix = 'llamas'

    def result_text(self, lanes: Lanes, sample: dict[str, Any]) -> str:
        """Returns the `.lines.txt` of an image."""
        return format_lines(lanes.polylines)

    def parse_result(self, text: str) -> Polylines:
        """Returns the lanes of a `.lines.txt`."""
        return list(parse_lines(text))

    def score(self, text: str, annotated: dict[str, Any], sample: dict[str, Any]) -> LaneCounts:
        """Counts the lanes of an image; all have one size."""
        lanes = [lane[lane[:, 1] >= FIRST_ROW] for lane in annotated['lanes']]
        return count_lanes([lane for lane in lanes if len(lane) > 1], self.parse_result(text), self.rule(SIZE_WH))

    def write_submission(self, folder: Path, results: list[LaneResult]) -> None:
        """Writes a file for each image."""
        for result in results:
            recording, name = result.frame_id.split('/')[-2:]
            stem = name.removesuffix(Path(IMAGE_SUFFIX).stem)
            write_bytes(folder / recording / f'{stem}{LINES_SUFFIX}', result.text.encode())
