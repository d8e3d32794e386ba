"""Decoding of crowd maps against a slow reference: peaks, radii that follow density, greedy suppression."""

from __future__ import annotations

import math

import pytest
import torch
from crowd_parts import RANGE_M

from perception3d.models.crowd.decoding import Decoder, suppress
from perception3d.models.crowd.maps import CrowdMaps, MapGrid

GRID = MapGrid(RANGE_M, (32, 32))


def _maps(seed, with_density):
    generator = torch.Generator().manual_seed(seed)
    heat = torch.randn(2, 1, 32, 32, generator=generator) * 2 - 1
    codes = torch.randn(2, 10, 32, 32, generator=generator) * 0.4
    density = torch.rand(2, 1, 32, 32, generator=generator) * 12 if with_density else None
    return CrowdMaps(heat, codes, (heat,), density=density)


def _slow(maps, cloud, decoder):
    """Boxes and scores of a cloud, cell by cell and box by box."""
    heat, found = maps.heatmap[cloud, 0], []
    for row in range(32):
        for column in range(32):
            window = heat[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            score = 1 / (1 + math.exp(-float(heat[row, column])))
            if heat[row, column] < window.max():
                continue
            c = maps.codes[cloud, :, row, column].double().tolist()
            size = [math.exp(v) for v in c[3:6]]
            x, y = (column + 0.5 + c[0]) * 7.68 / 32, -5.12 + (row + 0.5 + c[1]) * 10.24 / 32
            box = [x, y, c[2] - size[2] / 2, *size, math.atan2(c[6], c[7]), c[8], c[9]]
            radius = decoder.radius_m
            if maps.density is not None:
                per_m2 = float(maps.density[cloud, 0, row, column]) / (4 * math.pi)
                radius = min(max(0.3 * 0.5 / math.sqrt(per_m2), 0.2), 0.45)
            found.append((score, box, radius))
    kept = []
    for score, box, radius in sorted(found, key=lambda item: -item[0])[: decoder.max_boxes]:
        if score >= decoder.score_thr and all(math.dist(box[:2], other[:2]) > r for _, other, r in kept):
            kept.append((score, box, radius))
    return torch.tensor([box for _, box, _ in kept]), torch.tensor([score for score, _, _ in kept])


@pytest.mark.parametrize('with_density', [False, True])
@pytest.mark.parametrize('settings', [{}, dict(score_thr=0.6, max_boxes=40, radius_m=0.9)])
def test_decoding_equals_a_slow_reference(with_density, settings):
    maps, decoder = _maps(3, with_density), Decoder(**settings)
    dropped = 0
    for cloud, (boxes, scores) in enumerate(decoder(maps, GRID)):
        expected_boxes, expected_scores = _slow(maps, cloud, decoder)
        assert len(scores) == len(expected_scores) > 5
        assert torch.allclose(boxes, expected_boxes, atol=1e-5) and torch.allclose(scores, expected_scores, atol=1e-6)
        dropped += len(_slow(maps, cloud, Decoder(**{**settings, 'radius_m': 0}))[1]) - len(scores)
    assert with_density or dropped > 0


def test_suppression_is_greedy_along_chains():
    # Each box drops the next one, but a dropped box drops none: every other one is left.
    xy = torch.stack([torch.arange(9) * 0.25, torch.zeros(9)], 1)[None].expand(2, -1, -1)
    usable = torch.ones(2, 9, dtype=torch.bool)
    usable[1, 0] = False
    kept = suppress(xy, torch.full((2, 9), 0.3), usable)
    assert kept.tolist() == [[True, False] * 4 + [True], [False, True] * 4 + [False]]


def test_the_radius_is_that_of_the_better_box():
    xy = torch.tensor([[[0.0, 0.0], [0.35, 0.0]]])
    usable = torch.ones(1, 2, dtype=torch.bool)
    assert suppress(xy, torch.tensor([[0.2, 0.45]]), usable).tolist() == [[True, True]]
    assert suppress(xy, torch.tensor([[0.45, 0.2]]), usable).tolist() == [[True, False]]


def test_values_that_are_not_finite_make_no_box():
    maps = _maps(0, True)
    heat, codes = maps.heatmap.clone(), maps.codes.clone()
    heat[0], heat[1, 0, 5, 5], codes[1, :, 9, 9] = torch.nan, 20.0, torch.inf
    heat[1, 0, 9, 9] = 20.0
    (none, _), (boxes, scores) = Decoder()(maps._replace(heatmap=heat, codes=codes), GRID)
    assert len(none) == 0 and boxes.isfinite().all() and (scores > 0.99999).sum() == 1
