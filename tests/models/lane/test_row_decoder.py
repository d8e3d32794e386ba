"""RowDecoder against the published rule, written out slowly for one pixel at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lane_batches import lane_meta
from mmdet3d.structures import Det3DDataSample

from perception3d.checks import InputError
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.models.lane.row_decoder import RowDecoder

STORED = (590, 1640)


def outputs_of(input_hw, seed=0):
    """Logits with a few slanting lanes of different strength, and noise."""
    generator = torch.Generator().manual_seed(seed)
    height, width = input_hw
    logits = torch.randn(1, 5, height, width, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    for lane in range(4):
        centre = width * (0.2 + 0.2 * lane) + (lane - 1.5) * 0.6 * (height - rows)
        logits[0, lane + 1] += 9 * ((columns - centre).abs() < 6) * (rows > height * 0.2 * lane)
    return LaneOutputs((), logits, torch.tensor([[3.0, 0.4, -0.1, 2.0]]))


def slow(outputs, input_hw, crop):
    """`prob2lines` of SCNN as the fact sheet has it, with MATLAB's indices from 1."""
    height, width = input_hw
    maps = outputs.seg_logits[0].double().softmax(0).numpy()[1:]
    lanes = {}
    for slot in range(4):
        if 1 / (1 + np.exp(-float(outputs.exist_logits[0, slot]))) <= 0.5:
            continue
        padded = np.pad(maps[slot], 4)
        points = []
        for i in range(18):
            row = int(np.floor(height - i * 20 / (STORED[0] - crop) * height + 0.5))
            if row < 1:
                continue
            means = [padded[row - 1 : row + 8, k : k + 9].sum() / 81 for k in range(width)]
            column = int(np.argmax(means)) + 1
            if means[column - 1] > 0.3:
                points.append((int(np.floor(column * STORED[1] / width + 0.5)) - 1, STORED[0] - 20 * i - 1))
        if len(points) >= 2:
            lanes[slot] = np.array(points)
    return lanes


def decoded(outputs, meta, **settings):
    sample = Det3DDataSample(metainfo=meta)
    RowDecoder(**settings).decode(outputs, sample)
    return sample.pred_lanes


@pytest.mark.parametrize('input_hw, crop', [((288, 800), 0), ((208, 976), 240)])
def test_it_is_the_published_rule(input_hw, crop):
    outputs = outputs_of(input_hw)
    lanes = decoded(outputs, lane_meta(input_hw, STORED, crop))
    expected = slow(outputs, input_hw, crop)
    assert list(lanes.labels) == list(expected) == [0, 1, 3]
    for label, line in zip(lanes.labels, lanes.polylines):
        assert np.array_equal(line, expected[label])
    assert lanes.scores[0] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)
    # Rows are those of the official files: 589, 569, .., and no more than the input shows.
    assert lanes.polylines[0][0, 1] == 589 and len(lanes.polylines[0]) == 18


def test_lanes_of_one_point_are_left_out():
    outputs = outputs_of((288, 800))
    outputs.seg_logits[0, 1:, :280] = -9
    lanes = decoded(outputs, lane_meta((288, 800), STORED))
    assert len(lanes) == 0 and lanes.scores.shape == (0,)


def test_a_spline_smooths_columns_and_keeps_rows():
    outputs = outputs_of((288, 800))
    plain, smooth = (decoded(outputs, lane_meta((288, 800), STORED), smooth_px=value) for value in (None, 8.0))
    for a, b in zip(plain.polylines, smooth.polylines):
        assert np.array_equal(a[:, 1], b[:, 1]) and 0 < np.sqrt(((a[:, 0] - b[:, 0]) ** 2).mean()) < 8.1
        # Less bent, point by point.
        assert np.abs(np.diff(b[:, 0], 2)).sum() < np.abs(np.diff(a[:, 0], 2)).sum()


def test_rows_may_be_those_that_tusimple_lists():
    meta = lane_meta((288, 800), STORED) | dict(h_samples=np.arange(160, 590, 10))
    line = decoded(outputs_of((288, 800)), meta, at_h_samples=True).polylines[1]
    assert list(line[:, 1]) == list(range(580, 150, -10))
    with pytest.raises(InputError, match="a sample has no 'h_samples'"):
        decoded(outputs_of((288, 800)), lane_meta((288, 800), STORED), at_h_samples=True)


def test_without_an_existence_branch_every_lane_counts():
    outputs = outputs_of((288, 800))
    lanes = decoded(LaneOutputs((), outputs.seg_logits), lane_meta((288, 800), STORED))
    assert list(lanes.labels) == [0, 1, 2, 3] and (lanes.scores == 1).all()


def test_what_cannot_be_decoded_is_an_error():
    outputs, meta = outputs_of((32, 64)), lane_meta((32, 64), STORED)
    with pytest.raises(InputError, match="a sample has no 'img_from_stored'"):
        decoded(outputs, {key: value for key, value in meta.items() if key != 'img_from_stored'})
    meta['img_from_stored'][0, 0, 1] = 0.1
    with pytest.raises(InputError, match='img_from_stored turns the image'):
        decoded(outputs, meta)
    with pytest.raises(InputError, match='expected an odd kernel'):
        RowDecoder(kernel=4)
