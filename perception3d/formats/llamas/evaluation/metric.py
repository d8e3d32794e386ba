"""LLAMAS' score of lanes for mmengine's test loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.evaluation.lane_f1 import LaneCounts, LaneRule, count_lanes, lane_report
from perception3d.evaluation.submissions import require_format_dir
from perception3d.files import write_bytes
from perception3d.formats.culane.files import LINES_SUFFIX, format_lines, parse_lines
from perception3d.formats.llamas.evaluation.folders import FIRST_ROW
from perception3d.formats.llamas.files import IMAGE_SUFFIX, SIZE_WH
from perception3d.outputs import require_name
from perception3d.registry import METRICS


@METRICS.register_module()
class LlamasMetric(BaseMetric):
    """`f1`, `precision`, `recall` of lanes by CULane's metric.

    They are those of `tools/evaluate.py llamas` on the written files; at other thresholds than the first `f1/0.75` and
    so on. A rate that is not defined is NaN. A sample must have `pred_lanes`, and pack `frame_id` and `eval_ann_info`.
    Average precision is scored of files alone: it needs probabilities, which the models do not give.

    Args:
        thresholds: of IoU.
        format_dir: Result files are written there, `RECORDING/LABEL.lines.txt`; nowhere if None.
        format_only: Write result files, score nothing; the images need no labels.
        collect_device, prefix: As of mmengine's BaseMetric.
    """

    default_prefix = 'llamas'

    def __init__(
        self,
        thresholds: Sequence[float] = (0.5,),
        format_dir: str | None = None,
        format_only: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.rule = LaneRule(SIZE_WH, tuple(thresholds))
        self.format_dir = require_format_dir(format_dir, format_only)
        self.format_only = format_only

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Counts the lanes of a batch, and writes its result files."""
        for sample in data_samples:
            lacking = [key for key in ('frame_id', 'pred_lanes') if sample.get(key) is None]
            if lacking:
                raise InputError(f'tested samples carry no {", ".join(lacking)}: pack frame_id (meta_keys)')
            frame, content = str(sample['frame_id']), format_lines(sample['pred_lanes'].polylines)
            counts = None
            if not self.format_only:
                # As if written and read: the file has six digits.
                counts = count_lanes(_annotated(frame, sample), parse_lines(content), self.rule)
            if self.format_dir is not None:
                recording, name = (require_name(part, 'frame_id') for part in frame.split('/')[-2:])
                stem = name.removesuffix(Path(IMAGE_SUFFIX).stem)
                write_bytes(Path(self.format_dir) / recording / f'{stem}{LINES_SUFFIX}', content.encode())
            self.results.append((frame, counts))

    def compute_metrics(self, results: list[tuple[str, LaneCounts | None]]) -> dict[str, float]:
        """Returns the keys that the class describes."""
        frames = [frame for frame, _ in results]
        if len(set(frames)) < len(frames):
            raise InputError('an image was predicted more than once: frame ids must be unique')
        if self.format_dir is not None:
            print_log(f'lanes of {len(results)} images written to {self.format_dir}', logger='current')
        if self.format_only:
            return {}
        scores, table = lane_report([counts for _, counts in results if counts is not None], self.rule)
        print_log('\n'.join(table), logger='current')
        flat = {}
        for k, found in enumerate(scores[f'{threshold:g}'] for threshold in self.rule.thresholds):
            end = f'/{self.rule.thresholds[k]:g}' if k else ''
            for key in ('f1', 'precision', 'recall'):
                flat[key + end] = float('nan') if found[key] is None else float(found[key])
        return flat


def _annotated(frame: str, sample: dict[str, Any]) -> list[Any]:
    """Returns the annotated lanes, from row 300 on."""
    lanes = (sample.get('eval_ann_info') or {}).get('lanes')
    if lanes is None:
        raise InputError(
            f'image {frame} has no lanes, so it cannot be scored: test on another split, or write result files '
            '(--format-only)'
        )
    return [lane for lane in (lane[lane[:, 1] >= FIRST_ROW] for lane in lanes) if len(lane) > 1]
