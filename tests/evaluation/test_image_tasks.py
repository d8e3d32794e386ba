"""Metrics of steering angles, depths and classes of pixels, on numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from perception3d.checks import InputError
from perception3d.evaluation.image_tasks import DepthMetric, PixelClassMetric, SteeringMetric


def scores(metric, *samples):
    metric.process({}, samples)
    return metric.compute_metrics(metric.results)


def pair(name, key, predicted, truth, dtype=torch.float32):
    return {
        f'{side}_{name}': {key: torch.tensor(value, dtype=dtype)}
        for side, value in (('pred', predicted), ('gt', truth))
    }


def test_errors_of_the_steering_angle():
    angles = [pair('steering', 'steering_rad', [0.1], [0.0]), pair('steering', 'steering_rad', [-0.1], [0.2])]
    result = scores(SteeringMetric(), *angles)
    assert result['mae_deg'] == pytest.approx(math.degrees(0.2))
    assert result['rmse_deg'] == pytest.approx(math.degrees(math.sqrt(0.05)))


def test_errors_of_depth_leave_pixels_without_truth_out():
    result = scores(DepthMetric(), pair('depth', 'depth_m', [[[2.0, 9.0, 5.0]]], [[[1.0, 10.0, 0.0]]]))
    assert result == pytest.approx({'abs_rel': 0.55, 'rmse_m': 1.0})
    assert math.isnan(scores(DepthMetric(), pair('depth', 'depth_m', [[[2.0]]], [[[0.0]]]))['abs_rel'])


def test_iou_of_the_classes_that_occur():
    images = [
        pair('semantic', 'semantic', [[[0, 1, 1, 2]]], [[[0, 1, 0, 255]]], torch.uint8),
        pair('semantic', 'semantic', [[[0, 0]]], [[[0, 1]]], torch.uint8),
    ]
    result = scores(PixelClassMetric(num_classes=4), *images)
    # Class 0: 2 of 4 pixels; class 1: 1 of 3; the predicted 2 lies where nothing counts.
    assert result == pytest.approx({'miou': (2 / 4 + 1 / 3) / 2, 'accuracy': 3 / 5})


def test_what_cannot_be_scored_is_named():
    with pytest.raises(InputError, match='b/7 has no gt_steering: the data set needs the files of extra/'):
        scores(SteeringMetric(), {'frame_id': 'b/7', 'pred_steering': {'steering_rad': np.zeros(1)}})
    with pytest.raises(InputError, match='b/7 has no pred_steering: use a model that predicts it'):
        scores(SteeringMetric(), {'frame_id': 'b/7'})
    with pytest.raises(InputError, match='pred_steering is not finite'):
        scores(SteeringMetric(), pair('steering', 'steering_rad', [math.nan], [0.0]))
