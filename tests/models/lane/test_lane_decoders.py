"""TuSimpleDecoder and MaskDecoder on drawn maps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from lane_batches import lane_meta
from mmdet3d.structures import Det3DDataSample

from perception3d.checks import InputError
from perception3d.models.lane.mask_decoder import MaskDecoder
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.models.lane.tusimple_decoder import TuSimpleDecoder, components, cut_highest, filled, joined

INPUT, STORED = (368, 640), (720, 1280)
ROWS = np.arange(160, 720, 10.0)


def outputs_of(lanes, exist, input_hw=INPUT):
    """Logits of lanes, each a list of polylines in pixels of the stored image, drawn 8 px wide."""
    logits = np.zeros((1 + len(lanes), *input_hw), np.float32)
    logits[0] = 3
    scale = np.array([input_hw[1] / STORED[1], input_hw[0] / STORED[0]])
    for slot, lines in enumerate(lanes):
        for line in lines:
            points = np.rint((np.array(line) + 0.5) * scale - 0.5).astype(np.int32)
            cv2.polylines(logits[1 + slot], [points], False, (10.0,), 8)
    return LaneOutputs((), torch.from_numpy(logits)[None], torch.tensor([exist]))


def decoded(decoder, outputs, input_hw=INPUT, **meta):
    sample = Det3DDataSample(metainfo=lane_meta(input_hw, STORED) | meta)
    decoder.decode(outputs, sample)
    return sample


# From (200, 719) to (500, 300) and so on: x = a + b * y.
LEFT, RIGHT = [(200, 719), (500, 300)], [(1100, 719), (700, 260)]


def at(line, y):
    (x0, y0), (x1, y1) = line
    return x0 + (x1 - x0) * (y - y0) / (y1 - y0)


def test_lanes_that_exist_have_a_point_in_each_row_that_they_reach():
    outputs = outputs_of([[LEFT], [RIGHT], [[(640, 719), (640, 300)]]], [4.0, 2.0, -1.0])
    lanes = decoded(TuSimpleDecoder(), outputs, h_samples=ROWS).pred_lanes
    assert list(lanes.labels) == [0, 1] and lanes.scores[0] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)
    for line, drawn in zip(lanes.polylines, (LEFT, RIGHT)):
        assert set(line[:, 1]) <= set(ROWS) and (np.diff(line[:, 1]) == -10).all() and line[0, 1] == 710
        assert np.abs(line[:, 0] - [at(drawn, y) for y in line[:, 1]]).max() < 8
    # The right one alone reaches the highest row, and loses its point there.
    assert lanes.polylines[0][-1, 1] in (290, 300) and lanes.polylines[1][-1, 1] in (260, 270)


def test_a_broken_lane_is_joined_and_its_gap_filled():
    broken = [[LEFT[0], (at(LEFT, 560), 560)], [(at(LEFT, 470), 470), LEFT[1]]]
    lanes = decoded(TuSimpleDecoder(), outputs_of([broken, [RIGHT]], [3.0, 3.0]), h_samples=ROWS).pred_lanes
    assert sorted(lanes.labels) == [0, 1]
    line = lanes.polylines[list(lanes.labels).index(0)]
    assert (np.diff(line[:, 1]) == -10).all() and np.abs(line[:, 0] - [at(LEFT, y) for y in line[:, 1]]).max() < 8


def test_two_large_components_of_one_slot_are_two_lanes():
    outputs = outputs_of([[LEFT, RIGHT]], [3.0])
    lanes = decoded(TuSimpleDecoder(), outputs, h_samples=ROWS).pred_lanes
    assert list(lanes.labels) == [0, 0]
    # A third one, and a second of less than 800 pixels of area, are left out.
    short = [(640, 719), (640, 640)]
    for others in ([LEFT, RIGHT, short], [LEFT, short]):
        assert len(components(outputs_of([others], [3.0]).seg_logits[0].softmax(0)[1].numpy())) == len(others[:2]) - (
            others[1] is short
        )


def test_short_lanes_and_empty_maps_give_none():
    outputs = outputs_of([[[(200, 719), (220, 670)]], []], [3.0, 3.0])
    lanes = decoded(TuSimpleDecoder(), outputs).pred_lanes
    assert len(lanes) == 0 and lanes.scores.shape == (0,)


def test_the_longest_lanes_stay():
    outputs = outputs_of([[LEFT], [RIGHT], [[(640, 719), (640, 500)]]], [3.0, 3.0, 3.0])
    assert list(decoded(TuSimpleDecoder(max_lanes=2), outputs).pred_lanes.labels) == [0, 1]


def test_steps_of_the_rule_by_hand():
    assert filled(np.array([-2, 10, -2, -2, 40, -2])).tolist() == [-2, 10, 20, 30, 40, -2]
    rows = np.arange(0, 120, 10.0)
    upper = np.array([100, 110, 120, 130, -2, -2, -2, -2, -2, -2, -2, -2])
    lower = np.array([-2, -2, -2, -2, -2, -2, 160, 170, 180, 190, 200, 210])
    # One line: slope 1. Then one of another slope, and one that lies 60 px to the side.
    (lane,) = joined([(3, upper), (4, lower)], rows, 1.0)
    assert lane[0] == 4 and lane[1].tolist() == list(range(100, 220, 10))
    other = np.where(lower >= 0, 160 + (lower - 160) * 13 // 10, -2)
    beside = np.where(lower >= 0, lower + 60, -2)
    assert len(joined([(0, upper), (1, other)], rows, 1.0)) == len(joined([(0, upper), (1, beside)], rows, 1.0)) == 2
    lanes = [upper.copy(), lower.copy()]
    cut_highest(lanes)
    assert lanes[0].tolist()[:2] == [-2, 110] and np.array_equal(lanes[1], lower)
    lanes = [upper.copy(), upper.copy()]
    cut_highest(lanes)
    assert np.array_equal(lanes[0], upper)


def test_masks_have_the_size_of_the_stored_image():
    outputs = outputs_of([[LEFT], [RIGHT]], [3.0, 3.0])
    sample = decoded(MaskDecoder(), outputs)
    mask = sample.pred_lane_seg.lane_mask
    assert mask.shape == (1, *STORED) and mask.dtype == torch.uint8 and set(mask.unique().tolist()) == {0, 1, 2}
    for y in (400, 600, 700):
        assert mask[0, y, round(at(LEFT, y))] == 1 and mask[0, y, round(at(RIGHT, y))] == 2
    # 8 px of 640 are 16 of 1280.
    assert (mask[0, 600] == 1).sum().item() == pytest.approx(16 * np.hypot(419, 300) / 419, abs=5)
    for label, line in zip(sample.pred_lanes.labels, sample.pred_lanes.polylines):
        inner = line[2:-2]
        assert np.abs(inner[:, 0] - [at((LEFT, RIGHT)[label], y) for y in inner[:, 1]]).max() < 3
    assert 'pred_lane_seg' not in decoded(MaskDecoder(keep_mask=False), outputs)


def test_rows_above_a_crop_have_no_lane():
    logits = torch.zeros(1, 2, 8, 16)
    logits[:, 1] = 5
    sample = Det3DDataSample(metainfo=lane_meta((8, 16), (24, 32), crop_top_px=8))
    MaskDecoder().decode(LaneOutputs((), logits), sample)
    mask = sample.pred_lane_seg.lane_mask[0]
    assert not mask[:8].any() and mask[8:].all()


def test_a_threshold_is_a_probability():
    with pytest.raises(InputError, match='threshold is 1.5'):
        MaskDecoder(threshold=1.5)
