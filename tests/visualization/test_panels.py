"""Panels below a picture: true, false and missed predictions, and the maps of a crowd head where they belong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData

from perception3d.apis.inferencer import describe
from perception3d.checks import InputError
from perception3d.models.crowd.maps import CrowdMaps
from perception3d.models.crowd.pictures import ground_maps
from perception3d.structures.frame import X_FORWARD, SensorFrame
from perception3d.structures.ground_maps import GroundMaps
from perception3d.structures.matches import MATCHES, match_boxes
from perception3d.structures.sample import SampleStructures, structures_of
from perception3d.visualization.draw import PictureStyle, draw_sample
from perception3d.visualization.palette import class_color

RANGE_M = (0.0, -8.0, 16.0, 8.0)
# Two panels 320 pixels wide are in the first row; 16 m ahead, 4 m behind and 16 m to the side are 400 pixels high.
STYLE = PictureStyle(width_px=642, match_distance_m=0.5)
PX_PER_M, HEIGHT, TITLE_PX, SMALL_PX = 20, 400, 40, 159


def people(*xy, z=-1.7, height=1.7) -> np.ndarray:
    """Boxes (N, 9) of 0.6 m at places."""
    return np.array([[x, y, z, 0.6, 0.6, height, 0, 0, 0] for x, y in xy], np.float32).reshape(-1, 9)


def sample_of(truth, ignored, predicted, scores) -> Det3DDataSample:
    sample = Det3DDataSample(metainfo=dict(token='a', lidar_axes='x forward, y left'))
    boxes = LiDARInstance3DBoxes(truth, box_dim=9)
    labels = np.zeros(len(truth), int)
    sample.eval_ann_info = dict(gt_bboxes_3d=boxes, gt_labels_3d=labels, ignored_bboxes_3d=ignored)
    boxes, labels = LiDARInstance3DBoxes(predicted, box_dim=9), torch.zeros(len(predicted), dtype=torch.long)
    sample.pred_instances_3d = InstanceData(bboxes_3d=boxes, scores_3d=torch.tensor(scores), labels_3d=labels)
    sample.pred_maps = ground_maps(crowd_maps(), 0, RANGE_M)
    return sample


def crowd_maps() -> CrowdMaps:
    """Two levels of 16 x 16 and 8 x 8 cells: a bright cell at x = 4.5, y = 2.5, density 3 at x = 9.5, y = -3.5."""
    levels = (torch.full((1, 1, 16, 16), -9.0), torch.full((1, 1, 8, 8), -9.0))
    levels[0][0, 0, 10, 4] = 9.0
    density = torch.zeros(1, 1, 16, 16)
    density[0, 0, 4, 9] = 3.0
    gates = torch.stack([torch.full((16, 16), 0.25), torch.full((16, 16), 0.75)])[None]
    return CrowdMaps(levels[0], torch.zeros(1, 10, 16, 16), levels, gates, density)


def middle(chosen) -> tuple[float, float]:
    """Metres (ahead, left) of the middle of the chosen pixels below the title of a large panel."""
    rows, columns = np.nonzero(chosen[TITLE_PX:])
    return 16 - (rows.mean() + TITLE_PX + 0.5) / PX_PER_M, 8 - (columns.mean() + 0.5) / PX_PER_M


PLACES = dict(zip(MATCHES, ((4, 2), (7, -3), (9, 5), (11, -5))))


@pytest.fixture(scope='module')
def sample():
    truth = people(PLACES['true positive'], PLACES['false negative'])
    predicted = people(*(PLACES[name] for name in ('true positive', 'false positive', 'ignored')))
    return sample_of(truth, people(PLACES['ignored']), predicted, [0.9, 0.8, 0.7])


@pytest.fixture(scope='module')
def rows(sample):
    """The rows of panels: two large ones, then four small ones; the seventh panel is in a third row."""
    picture = draw_sample(SensorFrame({}, {}, axes=X_FORWARD), ('person',), structures_of(sample), style=STYLE)
    small = 2 + round(SMALL_PX * 20 / 16)
    return picture[-2 * small - HEIGHT : -2 * small], picture[-2 * small : -small]


def test_the_best_prediction_takes_a_person_and_the_second_one_is_false():
    truth, ignored = people((5, 0), (5, 0.5), (9, 0)), people((12, 0))
    predicted = people((5, 0.375), (5, 0.25), (5, 0.125), (9, 0.5), (12, 0.25))
    boxes, labels = match_boxes(predicted, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), truth, ignored, 0.5)
    # The first takes the second person, which is nearer, the next one the first; 0.5 m is not closer than 0.5 m.
    assert labels.tolist() == [0, 0, 1, 1, 3, 2, 3]
    np.testing.assert_array_equal(boxes, np.concatenate([predicted, truth[2:], ignored])[:, :7])
    # Middles count, not bottoms: that of a child at the same place is 0.35 m lower.
    child = people((9, 0), height=1.0)
    assert [match_boxes(child, np.ones(1), truth, ignored, limit)[1][0] for limit in (0.36, 0.34)] == [0, 1]
    assert match_boxes(people(), np.zeros(0), people(), people(), 1.0)[1].tolist() == []


def test_true_false_missed_and_ignored_people_have_their_colours_where_they_are(rows):
    panel = rows[0][:, :320]
    for name, place in PLACES.items():
        assert np.abs(np.subtract(middle((panel == class_color(name)).all(2)), place)).max() < 0.3, name
    # The next panel is no longer that of matches.
    assert not (rows[0][:, 322:] == class_color('true positive')).all(2).any()


def test_maps_lie_where_people_are_with_the_outlines_of_the_truth(rows):
    density, (*levels, weights) = rows[0][:, 322:], (rows[1][2:, k * 161 : k * 161 + SMALL_PX] for k in range(4))
    colored = np.ptp(density.astype(int), axis=2) > 60
    assert np.abs(np.subtract(middle(colored), (9.5, -3.5))).max() < 0.2
    outline = (density > 150).all(2) & (np.ptp(density.astype(int), axis=2) < 40)
    for name in ('true positive', 'false negative'):
        ahead, left = PLACES[name]
        row, column = (16 - ahead) * PX_PER_M, (8 - left) * PX_PER_M
        assert outline[row - 8 : row + 8, column - 8 : column + 8].sum() > 20, name
    # Heatmaps of both levels together and of the finest have one bright cell, the coarse one has none.
    shown = [(np.ptp(level[20:, 10:].astype(int), axis=2) > 60).sum() for level in levels]
    assert shown[0] > 20 and shown[1] > 20 and shown[2] == 0
    # A weight of 0.25 is dark, and covers the map, not what is behind the LiDAR.
    assert weights[30:120, 20:140].mean() > 20 and weights[-36:].max() <= 4


def test_maps_of_a_head_are_turned_and_named():
    maps = ground_maps(crowd_maps(), 0, RANGE_M)
    assert maps.titles == (
        'density: 0 to 3.0 people within 2 m',
        'heatmap',
        'heatmap of level 0, cells of 1.00 x 1.00 m',
        'heatmap of level 1, cells of 2.00 x 2.00 m',
        'weight of level 0, 0 to 1',
        'weight of level 1, 0 to 1',
    )
    assert np.argwhere(maps.values[0]).tolist() == [[9, 4]] and maps.values[1][4, 10] > 0.99
    assert GroundMaps.from_json(maps.to_json()).titles == maps.titles
    single = ground_maps(crowd_maps()._replace(levels=crowd_maps().levels[:1], gates=None, density=None), 0, RANGE_M)
    assert single.titles == ('heatmap',)
    with pytest.raises(InputError, match='a map.*values of 0 or more'):
        GroundMaps(('a map',), (np.full((2, 2), -1.0),), (1.0,), RANGE_M)


def test_ignored_people_are_a_class_of_their_own_and_maps_are_no_result(sample):
    known, ignored = structures_of(sample).ground_truth
    assert len(known) == 2 and ignored.classes == ('ignored',) and len(ignored) == 1
    training = Det3DDataSample(metainfo={})
    boxes = LiDARInstance3DBoxes(people((1, 0), (2, 0)), box_dim=9)
    training.gt_instances_3d = InstanceData(bboxes_3d=boxes, labels_3d=torch.tensor([-1, 0]))
    known, ignored = structures_of(training).ground_truth
    assert known.boxes[:, 0].tolist() == [2] and ignored.boxes[:, 0].tolist() == [1]
    assert describe(sample, ['person']).keys() == {'token', 'frame', 'boxes'}


def test_without_truth_there_are_no_matches(sample):
    predictions = SampleStructures(None, structures_of(sample).predictions[:1])
    frame = SensorFrame({}, {}, axes=X_FORWARD)
    picture = draw_sample(frame, ('person',), predictions, style=STYLE)
    plain = draw_sample(frame, ('person',), predictions, style=PictureStyle(width_px=642))
    assert (picture == plain).all()
    with pytest.raises(InputError, match='match_distance_m of a picture is 0'):
        PictureStyle(match_distance_m=0)
