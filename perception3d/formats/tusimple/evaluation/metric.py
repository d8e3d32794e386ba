"""TuSimple's accuracy for mmengine's test loop, and the file of the submission."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.evaluation.lane_metric import LaneMetric, LaneResult
from perception3d.files import write_bytes
from perception3d.formats.tusimple.evaluation.accuracy import ImageScores, score_image
from perception3d.formats.tusimple.evaluation.label_files import mean_scores
from perception3d.formats.tusimple.files import ABSENT, default_rows, format_line, raw_file_of
from perception3d.registry import METRICS
from perception3d.structures.lanes import Lanes


@METRICS.register_module()
class TuSimpleMetric(LaneMetric):
    """TuSimple's `accuracy`, `fp` and `fn`, means over images in 0..1, by the rules of its official tool.

    Also `f1`, the harmonic mean of 1 - fp and 1 - fn, which papers report; the official tool has no such number.

    A lane is taken in the rows `h_samples` of its image, which samples pack, else in 160, 170, .., 710 of 720.
    `run_time` is 0: it is not measured. The submission is `format_dir/pred.json`, one line an image. What a sample must
    have, and the arguments, are those of `LaneMetric`.
    """

    default_prefix = 'tusimple'

    def result_text(self, lanes: Lanes, sample: dict[str, Any]) -> str:
        """Returns the JSON line of an image."""
        rows = sample.get('h_samples')
        if rows is None:
            if sample.get('stored_hw') is None:
                raise InputError('tested samples carry neither h_samples nor stored_hw: pack them (meta_keys)')
            rows = default_rows(int(sample['stored_hw'][0][0]))
        return format_line(raw_file_of(sample), lanes.polylines, rows)

    def score(self, text: str, annotated: dict[str, Any], sample: dict[str, Any]) -> ImageScores:
        """Scores the line of an image."""
        line = json.loads(text)
        lanes = [_in_rows(lane, line['h_samples']) for lane in annotated['lanes']]
        return score_image(line['lanes'], lanes, line['h_samples'], line['run_time'])

    def summarise(self, results: list[LaneResult]) -> dict[str, float]:
        """Returns the keys that the class describes."""
        scores = mean_scores([result.scores for result in results], len(results))
        precision, recall = 1 - scores['fp'], 1 - scores['fn']
        scores['f1'] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        refused = sum(result.scores.refused for result in results)
        text = ', '.join(f'{name} {100 * value:.3f} %' for name, value in scores.items())
        print_log(f'{len(results)} images: {text}; {refused} with too many lanes', logger='current')
        return scores

    def write_submission(self, folder: Path, results: list[LaneResult]) -> None:
        """Writes the file of all images."""
        write_bytes(folder / 'pred.json', ''.join(result.text for result in results).encode())


def _in_rows(lane: Any, h_samples: Sequence[float]) -> list[float]:
    """Returns x of an annotated lane (M, 2) in each row; its points are those of the rows that it has."""
    x_of = {float(y): float(x) for x, y in lane}
    return [x_of.get(float(row), ABSENT) for row in h_samples]
