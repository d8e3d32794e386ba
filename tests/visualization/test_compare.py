"""Side by side: responses lie where the boxes lie, and each detector has its column."""

from __future__ import annotations

import numpy as np
import pytest

from perception3d.checks import InputError
from perception3d.formats.semantickitti.files import CLASSES
from perception3d.structures.boxes import Boxes
from perception3d.structures.frame import Y_FORWARD, LidarAxes
from perception3d.structures.heatmaps import Heatmaps
from perception3d.structures.point_labels import PointLabels
from perception3d.structures.views import BevView, square_view
from perception3d.visualization.compare import Column, draw_comparison, draw_response
from perception3d.visualization.palette import class_color
from perception3d.visualization.windows import covering_view

RANGE = (-10.0, -10.0, 10.0, 10.0)


def nothing():
    return Boxes(np.zeros((0, 9)), np.zeros(0))


def detection(title: str, boxes: Boxes) -> Column:
    return Column(title, [boxes.with_classes(['car'])], Heatmaps(np.zeros((1, 8, 8)), RANGE))


def test_a_response_is_bright_where_its_pillar_lies():
    response = np.zeros((20, 20))
    response[17, 12] = 1.0  # the pillar from x = 7 to 8 m (right) and y = 2 to 3 m (forward)
    view = square_view(10.0, 200)
    panel = draw_response(Heatmaps(response[None], RANGE), view)
    rows, columns = np.nonzero(panel.sum(2) > 300)
    u, v = view.to_pixels(np.array([7.5, 2.5]))
    assert abs(columns.mean() - u) < 1 and abs(rows.mean() - v) < 1
    assert len(rows) == 100  # one metre is ten pixels


def test_a_response_that_covers_less_than_the_window_keeps_its_place():
    view = square_view(20.0, 200)
    panel = draw_response(Heatmaps(np.ones((1, 4, 4)), RANGE), view)
    rows, columns = np.nonzero(panel.sum(2) > 300)
    assert abs(rows.min() - 50) <= 1 and abs(rows.max() - 149) <= 1 and abs(columns.mean() - 99.5) < 1


@pytest.mark.parametrize('forward', [(1, 0), (0, 1), (-1, 0), (0, -1)])
def test_a_response_is_turned_as_the_data_are(forward: tuple[int, int]):
    """A map of 40 x 30 pillars of half a metre; one pillar 9 to 9.5 m ahead, 4 to 4.5 m to the left is bright."""
    left = (-forward[1], forward[0])
    place = 9.25 * np.array(forward) + 4.25 * np.array(left)
    low = place - [12.25, 3.25]
    response = np.zeros((40, 30))
    response[24, 6] = 1.0
    window = BevView((-10.0, 10.0), (-5.0, 15.0), 200, forward)
    rows, columns = np.nonzero(draw_response(Heatmaps(response[None], (*low, *(low + [20, 15]))), window).sum(2) > 300)
    # Ten pixels a metre: the left border is 10 m to the left, the upper one 15 m ahead. So 5.5 to 6 m from both.
    assert sorted(set(columns)) == sorted(set(rows)) == [55, 56, 57, 58, 59]
    assert len(rows) == 25


def test_the_window_covers_all_maps_and_the_own_car():
    ahead = covering_view(LidarAxes((1, 0), only_ahead=True), [(0, -20, 40, 10), (0, -16, 69, 16)], 360)
    assert ahead == BevView((-16.0, 20.0), (-4.0, 69.0), 360, (1, 0))
    around = covering_view(Y_FORWARD, [(-25.6, -25.6, 25.6, 25.6)], 480)
    assert around == BevView((-25.6, 25.6), (-25.6, 25.6), 480, (0, 1))


def test_every_detector_has_a_column_with_its_boxes():
    car = Boxes(np.array([[5.0, 5, -1, 4, 2, 1.5, 0, 0, 0]]), np.array([0]), np.array([0.9]))
    picture = draw_comparison([detection('detected', car), detection('missed', nothing())], width_px=100)
    assert picture.shape == (200, 238, 3)
    # The second column differs from the first where the car is, and in the title.
    differs = np.nonzero((picture[:100, :99] != picture[:100, 100:199]).any(2))
    u, v = square_view(10.0, 100).to_pixels(np.array([5.0, 5.0]))
    assert ((np.abs(differs[1] - u) < 20) & (np.abs(differs[0] - v) < 15)).sum() > 20


def test_annotated_boxes_are_in_both_rows():
    truth = Boxes(np.array([[0.0, 6, -1, 4, 2, 1.5, 0, 0, 0]]), np.array([0]))
    with_truth, without = (
        draw_comparison([detection('', nothing())], boxes, width_px=100) for boxes in ([truth], None)
    )
    rows = np.nonzero((with_truth != without).any(2))[0]
    assert (rows < 100).any() and (rows >= 100).any()


def test_what_cannot_be_compared_is_named():
    with pytest.raises(InputError, match='nothing to compare'):
        draw_comparison([])
    with pytest.raises(InputError, match='has no range_m'):
        draw_comparison([Column('', [], Heatmaps(np.zeros((3, 8, 8))))])


def test_a_model_without_a_response_shows_its_wrong_points_below():
    points = np.array([[0.0, 6, 0], [0, -6, 0], [8, 0, 0], [-8, 0, 0]])
    truth, right = PointLabels([0, 1, 1, 0], points=points), PointLabels([0, 1, 1, 1], points=points)
    columns = [Column(title, [labels.with_classes('ab')]) for title, labels in (('exact', truth), ('', right))]
    picture = draw_comparison(columns, [truth.with_classes('ab')], width_px=160)
    height = len(picture) // 2
    exact, wrong = picture[height:, :159].astype(int), picture[height:, 160:319].astype(int)
    columns_that_differ = np.nonzero((exact != wrong).any(2))[1]
    assert len(columns_that_differ) and columns_that_differ.max() < 20  # the point at the left border alone


def test_the_legend_has_the_classes_that_are_drawn():
    points = np.column_stack([np.linspace(-8, 8, 18), np.linspace(-6, 6, 18), np.zeros(18)])
    truth = PointLabels(np.arange(1, 19), points=points).with_classes(CLASSES)
    predicted = PointLabels(np.r_[np.arange(1, 18), 17], points=points).with_classes(CLASSES)
    legend = draw_comparison([Column('', [predicted])], [truth])[:, 480:]
    assert legend.shape[1] == 180
    is_in = {name: (legend == class_color(name)).all(2).any(1) for name in (*CLASSES, 'wrong')}
    first_rows = [np.argmax(is_in[name]) for name in (*CLASSES[1:], 'wrong')]
    assert not is_in[CLASSES[0]].any() and all(is_in[name].any() for name in (*CLASSES[1:], 'wrong'))
    # Below each other, in letters of full size.
    assert min(np.diff(first_rows)) == max(np.diff(first_rows)) == 24
    # Annotated boxes are white over a response, so that their class needs no colour.
    car = Boxes(np.array([[5.0, 5, -1, 4, 2, 1.5, 0, 0, 0]]), np.array([0]), np.array([0.9]))
    boxes = draw_comparison([detection('', nothing())], [car.with_classes(['car'])], width_px=240)[:, 240:]
    assert not (boxes == class_color('car')).all(2).any()
