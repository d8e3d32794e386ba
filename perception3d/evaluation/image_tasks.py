"""Metrics of the other tasks on the images of lanes: steering angle, depth and class of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from mmengine.evaluator import BaseMetric

from perception3d.checks import InputError
from perception3d.evaluation.point_iou import count_confusion
from perception3d.registry import METRICS


def _field(sample: dict[str, Any], name: str, key: str) -> npt.NDArray[Any]:
    """Returns an array of a sample; InputError where it is missing or not finite."""
    if name not in sample:
        fix = 'use a model that predicts it' if name.startswith('pred') else 'the data set needs the files of extra/'
        raise InputError(f'{sample.get("frame_id", "a sample")} has no {name}: {fix}')
    value = sample[name][key]
    array = np.asarray(value.cpu() if hasattr(value, 'cpu') else value)
    if not np.isfinite(array).all():
        raise InputError(f'{sample.get("frame_id", "a sample")}: {name} is not finite')
    return array


@METRICS.register_module()
class SteeringMetric(BaseMetric):
    """Errors of the steering angle over all images, in degrees: `mae_deg` and `rmse_deg`.

    Reads `pred_steering` and `gt_steering`, each with `steering_rad` (1,). The mean absolute error is the score of
    FM-Net (arXiv 1811.02759).
    """

    default_prefix = 'steering'

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keeps the errors of a batch."""
        for sample in data_samples:
            pair = [float(_field(sample, name, 'steering_rad')[0]) for name in ('pred_steering', 'gt_steering')]
            self.results.append(math.degrees(pair[0] - pair[1]))

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Returns the scores."""
        errors = np.asarray(results)
        return {'mae_deg': float(np.abs(errors).mean()), 'rmse_deg': float(np.sqrt((errors**2).mean()))}


@METRICS.register_module()
class DepthMetric(BaseMetric):
    """Errors of depth over all pixels with one: `abs_rel`, mean of |d - d*| / d*, and `rmse_m`.

    Reads `pred_depth` and `gt_depth`, each with `depth_m` (1, H, W); 0 in the truth counts nowhere.
    """

    default_prefix = 'depth'

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Sums the errors of a batch."""
        for sample in data_samples:
            predicted, truth = (_field(sample, name, 'depth_m') for name in ('pred_depth', 'gt_depth'))
            known = truth > 0
            error = predicted[known].astype(np.float64) - truth[known]
            self.results.append((len(error), float((np.abs(error) / truth[known]).sum()), float((error**2).sum())))

    def compute_metrics(self, results: list[tuple[int, float, float]]) -> dict[str, float]:
        """Returns the scores; NaN where no pixel has a depth."""
        count, relative, squared = (sum(column) for column in zip(*results, strict=True))
        if not count:
            return {'abs_rel': math.nan, 'rmse_m': math.nan}
        return {'abs_rel': relative / count, 'rmse_m': math.sqrt(squared / count)}


@METRICS.register_module()
class PixelClassMetric(BaseMetric):
    """IoU of the classes of pixels, in 0..1: `miou` over the classes that occur, and `accuracy`.

    Reads `pred_semantic` and `gt_semantic`, each with `semantic` (1, H, W).

    Args:
        num_classes: K; other values in the truth, such as 255, do not count.
        collect_device, prefix: as of mmengine's BaseMetric.
    """

    default_prefix = 'semantic'

    def __init__(self, num_classes: int, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.num_classes = num_classes

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Counts the pixels of a batch."""
        for sample in data_samples:
            predicted, truth = (
                _field(sample, name, 'semantic').ravel().astype(np.int64) for name in ('pred_semantic', 'gt_semantic')
            )
            self.results.append(count_confusion(predicted, truth, self.num_classes))

    def compute_metrics(self, results: list[npt.NDArray[np.int64]]) -> dict[str, float]:
        """Returns the scores."""
        counts = np.sum(results, axis=0)[:, :-1]
        right, union = np.diagonal(counts), counts[:-1].sum(1) + counts.sum(0) - np.diagonal(counts)
        occurs = union > 0
        return {
            'miou': float((right[occurs] / union[occurs]).mean()) if occurs.any() else math.nan,
            'accuracy': float(right.sum() / counts.sum()) if counts.sum() else math.nan,
        }
