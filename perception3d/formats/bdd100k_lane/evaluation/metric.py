"""Pixel scores of BDD100K lanes for mmengine's test loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.datasets.lane_masks import draw_lane_mask
from perception3d.evaluation.submissions import SubmissionMetric, require_unique
from perception3d.files import write_image
from perception3d.formats.bdd100k_lane.dataset import lane_image
from perception3d.formats.bdd100k_lane.evaluation.pixels import Mask, mean_scores, pixel_scores
from perception3d.formats.bdd100k_lane.files import MASK_WIDTH_PX
from perception3d.outputs import require_name
from perception3d.registry import METRICS


@METRICS.register_module()
class Bdd100kLaneMetric(SubmissionMetric):
    """`accuracy` and `iou` of lane pixels in 0..1, by the rule of the SAD paper: see `pixels.pixel_scores`.

    A sample must have `pred_lane_seg.lane_mask` (1, H, W) at the size of the stored image, not 0 on lanes, which a
    decoder gives with `keep_mask=True`, and pack `frame_id`, `stored_hw` and `eval_ann_info`. Its `lanes` are drawn 2
    pixels wide, as create_data draws the masks of `val`: the scores are those of
    `tools/evaluate.py bdd100k-lane --binary`. BDD100K's own table needs categories, which no model here predicts.

    `format_dir` gets `<name of the image>.png`, 255 on lanes. Arguments are those of SubmissionMetric.
    """

    default_prefix = 'bdd100k_lane'

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Scores the images of a batch, and writes their masks."""
        for sample in data_samples:
            frame, image = _predicted(sample)
            scores = None if self.format_only else pixel_scores(_annotated(frame, sample), image > 0)
            if self.format_dir is not None:
                name = require_name(frame.rpartition('/')[2], 'the name of an image')
                write_image(Path(self.format_dir) / f'{name}.png', image)
            self.results.append((frame, scores))

    def compute_metrics(self, results: list[tuple[str, tuple[float, float] | None]]) -> dict[str, float]:
        """Returns the keys that the class describes."""
        require_unique((frame.rpartition('/')[2] for frame, _ in results), 'image', 'names must be unique')
        if self.format_dir is not None:
            print_log(f'masks of {len(results)} images written to {self.format_dir}', logger='current')
        return {} if self.format_only else mean_scores(scores for _, scores in results if scores is not None)


def _predicted(sample: dict[str, Any]) -> tuple[str, Any]:
    """Returns `frame_id`, and the predicted mask (H, W), 255 on lanes.

    Raises:
        InputError: the sample lacks something, or its mask has another size than the stored image.
    """
    lacking = [key for key in ('frame_id', 'stored_hw', 'pred_lane_seg') if sample.get(key) is None]
    if lacking:
        raise InputError(
            f'tested samples carry no {", ".join(lacking)}: pack meta keys (meta_keys), and let the decoder give masks '
            '(keep_mask=True)'
        )
    frame, image = str(sample['frame_id']), lane_image(sample['pred_lane_seg'])
    if image.shape != tuple(sample['stored_hw'][0]):
        found, wanted = ('x'.join(map(str, hw[::-1])) for hw in (image.shape, sample['stored_hw'][0]))
        raise InputError(f'image {frame} has a predicted mask of {found} pixels, expected those of the image, {wanted}')
    return frame, image


def _annotated(frame: str, sample: dict[str, Any]) -> Mask:
    """Returns the pixels (H, W) of the annotated lanes."""
    lanes = (sample.get('eval_ann_info') or {}).get('lanes')
    if lanes is None:
        raise InputError(
            f'image {frame} has no lanes, so it cannot be scored: test on another split, or write masks (--format-only)'
        )
    slots = np.zeros(len(lanes), np.int64)
    annotated: Mask = draw_lane_mask(lanes, slots, tuple(sample['stored_hw'][0]), MASK_WIDTH_PX['val']) > 0
    return annotated
