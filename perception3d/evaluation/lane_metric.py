"""What the metrics of lanes share: the result of a tested image, written and read again before it is scored."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.evaluation.lane_f1 import MAIN_IOU, LaneCounts, LaneRule, count_lanes, lane_report
from perception3d.evaluation.submissions import SubmissionMetric, require_unique
from perception3d.outputs import require_name
from perception3d.structures.lanes import Lanes

Polylines = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class LaneResult:
    """What is kept of a tested image: its result as text, and what was counted, None where nothing is scored."""

    frame_id: str
    text: str
    scores: Any
    category: str | None = None


class LaneMetric(SubmissionMetric):
    """Base of metrics of lanes: a subclass says what the result of an image is as text, and scores that text.

    Scores are exactly those of files that are written and scored by tools/evaluate.py. A sample must have `pred_lanes`
    (stored pixels) and pack `frame_id`; `eval_ann_info` with `lanes` unless `format_only`.

    Arguments are those of SubmissionMetric.
    """

    @abstractmethod
    def result_text(self, lanes: Lanes, sample: dict[str, Any]) -> str:
        """Returns the result of an image as it is written."""

    @abstractmethod
    def score(self, text: str, annotated: dict[str, Any], sample: dict[str, Any]) -> Any:
        """Returns what is counted of an image: of its result as text, against its `eval_ann_info`."""

    @abstractmethod
    def summarise(self, results: list[LaneResult]) -> dict[str, float]:
        """Returns the scores of all images."""

    @abstractmethod
    def write_submission(self, folder: Path, results: list[LaneResult]) -> None:
        """Writes the results of all images."""

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Scores the images of a batch."""
        for sample in data_samples:
            lacking = [key for key in ('frame_id', 'pred_lanes') if sample.get(key) is None]
            if lacking:
                raise InputError(
                    f'tested samples carry no {", ".join(lacking)}: pack frame_id as a meta key (meta_keys)'
                )
            frame = str(sample['frame_id'])
            for part in frame.split('/'):
                require_name(part, 'frame_id: part')
            text = self.result_text(sample['pred_lanes'], sample)
            annotated = sample.get('eval_ann_info') or {}
            if not self.format_only and annotated.get('lanes') is None:
                raise InputError(
                    f'image {frame} has no annotated lanes, so it cannot be scored: test on another split, or write '
                    'result files (--format-only)'
                )
            scores = None if self.format_only else self.score(text, annotated, sample)
            self.results.append(LaneResult(frame, text, scores, annotated.get('category')))

    def compute_metrics(self, results: list[LaneResult]) -> dict[str, float]:
        """Returns the keys that the subclass describes, and writes the submission."""
        require_unique((result.frame_id for result in results), 'image')
        if self.format_dir is not None:
            self.write_submission(Path(self.format_dir), results)
            print_log(f'results of {len(results)} images written to {self.format_dir}', logger='current')
        return {} if self.format_only else self.summarise(results)


class LaneF1Metric(LaneMetric):
    """Precision, recall and F1 of lanes by CULane's rule: see `evaluation.lane_f1`.

    Scores in 0..1: `f1`, `precision`, `recall` at the IoU 0.5 (the first threshold where 0.5 is not asked for), and
    `f1@0.3` and so on at the others; of each category that samples state `f1/<category>`, and of one without annotated
    lanes, such as crossroads, `fp/<category>`, a number of lanes, which is what is reported of it. F1 is 0 where no
    lane is found: the official tool prints nan. The precision is -1 where nothing is predicted, the recall where
    nothing is annotated.

    Args:
        thresholds: of IoU.
        width_px: of the bands that lanes are compared as; 30 in images of 1640x590 and 1276x717.
        kwargs: as of SubmissionMetric.
    """

    def __init__(self, thresholds: Sequence[float] = (MAIN_IOU,), width_px: int = 30, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thresholds, self.width_px = tuple(thresholds), width_px

    @abstractmethod
    def parse_result(self, text: str) -> Polylines:
        """Returns the lanes of a result as text."""

    def rule(self, size_wh: tuple[int, int]) -> LaneRule:
        """Returns the rule for images of a size."""
        return LaneRule(size_wh, self.thresholds, self.width_px)

    def score(self, text: str, annotated: dict[str, Any], sample: dict[str, Any]) -> LaneCounts:
        """Counts the lanes of an image; its size is `stored_hw`, which the sample packs."""
        if sample.get('stored_hw') is None:
            raise InputError(
                'tested samples carry no stored_hw, the size of the image: pack it as a meta key (meta_keys)'
            )
        height, width = (int(value) for value in np.ravel(sample['stored_hw'])[:2])
        return count_lanes(annotated['lanes'], self.parse_result(text), self.rule((width, height)))

    def summarise(self, results: list[LaneResult]) -> dict[str, float]:
        """Returns the keys that the class describes."""
        groups: dict[str, list[LaneCounts]] = {}
        for result in results:
            if result.category is not None:
                groups.setdefault(result.category, []).append(result.scores)
        # The size of the image has no part in what is reported of counts.
        rule = self.rule((1, 1))
        scores, lines = lane_report([result.scores for result in results], rule, groups)
        print_log('\n'.join([f'{len(results)} images', *lines]), logger='current')
        names = [f'{threshold:g}' for threshold in rule.thresholds]
        main = scores[names[rule.main]]
        flat = {'f1': main['f1'] or 0.0, 'precision': main['precision'], 'recall': main['recall']}
        flat |= {f'f1@{name}': scores[name]['f1'] or 0.0 for name in names if name != names[rule.main]}
        for category, found in scores.get('categories', {}).items():
            if found['tp'] + found['fn']:
                flat[f'f1/{category}'] = found['f1'] or 0.0
            else:
                flat[f'fp/{category}'] = float(found['fp'])
        return flat
