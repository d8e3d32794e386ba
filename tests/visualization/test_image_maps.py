"""Attention maps of lane networks: what they hold, and panels where they belong, of a picture and of a comparison."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lane_batches import lane_meta
from mmdet3d.structures import Det3DDataSample

from perception3d.checks import InputError
from perception3d.models.lane.attention import attention_maps, names_of_stages
from perception3d.models.lane.outputs import STAGES, LaneOutputs
from perception3d.structures.frame import SensorFrame
from perception3d.structures.image_maps import ImageMaps
from perception3d.structures.lanes import Lanes
from perception3d.structures.sample import SampleStructures, structures_of
from perception3d.visualization.compare import Column
from perception3d.visualization.compare_images import draw_image_comparison
from perception3d.visualization.draw import PictureStyle, draw_sample

# 400 x 200 pixels on disk, of which the lower 160 rows enter a network of 100 x 40 pixels.
FRAME = SensorFrame({'front': np.full((200, 400, 3), 128, np.uint8)})
STYLE = PictureStyle(width_px=1216)
# Four panels of 302 pixels and gaps of 3 (4 pixels at 1920), below the title and the image.
PANEL_PX, GAP_PX = 301, 3


def outputs() -> LaneOutputs:
    """Two images; in the second one each stage k is bright in one cell, of two channels."""
    stages = [torch.zeros(2, 2 + k, 20 // 2**k, 50 // 2**k) for k in (0, 1, 1, 1)]
    for stage, (row, column) in zip(stages, ((10, 30), (2, 20), (5, 5), (9, 24))):
        stage[1, :2, row, column] = torch.tensor([3.0, -4.0])
        stage[1, 0, 0, 0] = 1.0
    return LaneOutputs(tuple(stages))


def sample() -> Det3DDataSample:
    found = Det3DDataSample(metainfo=lane_meta((40, 100), (200, 400), crop_top_px=40))
    found.pred_attention = attention_maps(outputs(), 1, found)
    return found


def test_a_map_is_the_sum_of_squares_over_channels():
    maps = sample().pred_attention
    assert maps.titles[1] == 'attention of stage2, 25 x 10 cells'
    for values, stage in zip(maps.values, outputs().stages):
        slow = [[sum(float(x) ** 2 for x in stage[1, :, r, c]) for c in range(stage.shape[3])]
                for r in range(stage.shape[2])]  # fmt: skip
        assert np.array_equal(values, np.array(slow, np.float32)) and values.max() == 25
    # As shares of the brightest cell; a JSON for readers has none of it.
    assert [each.values.max() for each in maps.image_maps()] == [1.0] * 4
    assert maps.image_maps()[0].values[0, 0] == pytest.approx(1 / 25) and maps.describe() == {}
    assert ImageMaps.from_json(maps.to_json()).values[2].tolist() == maps.values[2].tolist()


def brightest(panel: np.ndarray, title_px: int = 16) -> tuple[float, float]:
    """The middle of the brightest pixels of a panel, below its title, in pixels of the image on disk."""
    grey = panel[title_px:, :].sum(axis=2).astype(int)
    rows, columns = np.nonzero(grey >= grey.max() - 6)
    scale = panel.shape[1] / 400
    return (columns.mean() + 0.5) / scale, (rows.mean() + title_px + 0.5) / scale


def test_panels_show_the_maps_where_they_are_in_the_image():
    carried = structures_of(sample())
    bare = draw_sample(FRAME, (), SampleStructures(None, ()), style=STYLE)
    picture = draw_sample(FRAME, (), carried, style=STYLE)
    row = picture[len(bare) + GAP_PX :]
    assert row.shape[:2] == (round(PANEL_PX / 2), 1216)
    for k, (cells, place) in enumerate(zip((20, 10, 10, 10), ((10, 30), (2, 20), (5, 5), (9, 24)))):
        panel = row[:, k * (PANEL_PX + GAP_PX) :][:, :PANEL_PX]
        cell_px = 160 / cells
        wanted = (place[1] + 0.5) * cell_px, 40 + (place[0] + 0.5) * cell_px
        assert brightest(panel) == pytest.approx(wanted, abs=2.5)
        # Rows that do not enter the network stay grey.
        above = panel[16 : round(38 * PANEL_PX / 400), 150:]
        assert (above == 128).all()
        # Where a map is 0, a third of the grey is left.
        assert 40 < panel[-20:, 20:40].mean() < 50


def test_a_comparison_has_the_maps_of_each_model_below():
    with_maps = Column('with', (sample().pred_attention,), None)
    lane = Lanes((np.array([[100.0, 199], [150, 100]]),), [0])
    picture = draw_image_comparison([with_maps, Column('without', (lane,), None)], None, FRAME, 400)
    assert len(picture) == 2 * 200 + 4 * 204
    for k, y in enumerate((10.5 * 8, 2.5 * 16, 5.5 * 16, 9.5 * 16)):
        panel = picture[400 + 204 * k + 4 :][:200, :399]
        assert brightest(panel, 28)[1] == pytest.approx(40 + y, abs=2.5)
    assert not picture[400:, 400:798].any()


def test_settings_and_maps_are_checked():
    assert names_of_stages(True) == STAGES and names_of_stages(False) == () and names_of_stages('stage2') == ('stage2',)
    with pytest.raises(InputError, match="stage of keep_attention 'stage5': did you mean"):
        names_of_stages(['stage5'])
    with pytest.raises(InputError, match='got 1 titles and 0 maps'):
        ImageMaps(('a',), ())
    with pytest.raises(InputError, match="'a': expected cells, all with values of 0 or more"):
        ImageMaps(('a',), (np.array([[-1.0]]),))
    with pytest.raises(InputError, match='whose size is img_hw: give both'):
        ImageMaps(('a',), (np.ones((2, 2)),), np.eye(3))
