"""One picture with all five structures: each is where it belongs, in the camera, in BEV and in the 3D view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import synthetic_structures as synthetic
from mmdet3d.structures import Det3DDataSample

from perception3d.apis.inferencer import describe
from perception3d.checks import InputError
from perception3d.geometry.range_image import RangeImage
from perception3d.structures.frame import LidarAxes, SensorFrame
from perception3d.structures.lanes import Lanes
from perception3d.structures.point_labels import PointLabels
from perception3d.structures.sample import SampleStructures
from perception3d.structures.tracks import Tracks
from perception3d.structures.views import RangeView
from perception3d.visualization.draw import PictureStyle, draw_sample, prepare
from perception3d.visualization.palette import class_color
from perception3d.visualization.view3d import draw_scene, overhead_camera

STYLE = PictureStyle(width_px=640)
TRUTH = ('point_labels', 'lanes', 'boxes')
# The title is 11 pixels high, the camera 180, the legend 77 wide.
CAMERA, BEV, LEGEND = np.s_[11:191], np.s_[191:, :560], np.s_[191:, 563:]


def carried(without: str = '') -> SampleStructures:
    """All five structures but one."""
    made = [make() for make in synthetic.ALL]
    made = [replace(one, scores=None) if one.name == 'boxes' else one for one in made if one.name != without]
    truth = tuple(one for one in made if one.name in TRUTH)
    return SampleStructures(truth, tuple(one for one in made if one.name not in TRUTH))


@pytest.fixture(scope='module')
def whole() -> np.ndarray:
    return draw_sample(synthetic.frame(), synthetic.BOX_CLASSES, carried(), style=STYLE)


@pytest.mark.parametrize('name', [make.__name__ for make in synthetic.ALL])
def test_each_structure_is_in_every_view_that_can_show_it(name: str, whole: np.ndarray):
    without = draw_sample(synthetic.frame(), synthetic.BOX_CLASSES, carried(name), style=STYLE)
    counts = [int((whole[part] != without[part]).any(axis=2).sum()) for part in (CAMERA, BEV, LEGEND)]
    # A map of the ground is not drawn over a camera image, and has nothing to count.
    assert [count > 30 for count in counts] == ([False, True, False] if name == 'heatmaps' else [True] * 3), counts
    scene, scene_without = (
        draw_scene(synthetic.frame(), synthetic.BOX_CLASSES, one, style=STYLE) for one in (carried(), carried(name))
    )
    assert scene.shape == (11 + 317, 640, 3) and (scene[:, :560] != scene_without[:, :560]).any(axis=2).sum() > 15


def test_a_lane_is_drawn_where_its_points_are_projected():
    lane = Lanes((np.array([[5.0, -1, -1.8], [20, -1, -1.8]]),), [0], classes=('line',))
    bare = SensorFrame(synthetic.frame().images, synthetic.frame().img_from_lidar)
    picture = draw_sample(bare, (), SampleStructures(predictions=(lane,)), style=STYLE)
    rows, columns = np.nonzero((picture[CAMERA] == class_color('line')).all(axis=2))
    # The image is 320 x 180, in the middle of 640; u = 320 + 400 / x and v = 150 + 720 / x, halved.
    ends = [160 + 320 / 2 + 200 / 20, 160 + 320 / 2 + 200 / 5, 75 + 360 / 20, 75 + 360 / 5]
    np.testing.assert_allclose([columns.min(), columns.max(), rows.min(), rows.max()], ends, atol=2)


def test_the_3d_view_looks_ahead_whatever_the_axes():
    for forward in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        axes = LidarAxes(forward)
        ahead, left = np.array([*forward, 0]), np.array([-forward[1], forward[0], 0])
        pixels, kept = overhead_camera(axes, 640, 360).points(
            np.stack([12 * ahead, 12 * ahead + 4 * left, -40 * ahead])
        )
        # Far ones first; what is behind the camera is not seen.
        assert sorted(kept.tolist()) == [0, 1]
        straight, left = pixels[kept.tolist().index(0)], pixels[kept.tolist().index(1)]
        assert abs(straight[0] - 320) < 1e-6 and left[0] < straight[0] - 20


def test_labels_that_do_not_fit_the_points_are_named():
    labels = SampleStructures((PointLabels([0, 1], classes=('a', 'b')),))
    with pytest.raises(InputError, match='2 point labels came with 9500 points'):
        draw_sample(synthetic.frame(), (), labels, style=STYLE)


def test_tracks_next_to_their_boxes_are_trails_in_colours_of_their_own():
    boxes, tracks = synthetic.boxes(), synthetic.tracks()
    predictions = {
        names: prepare(synthetic.frame(), (), SampleStructures(None, tuple(shown))).sources[1][1]
        for names, shown in (('tracks', [tracks]), ('boxes', [boxes]), ('both', [boxes, tracks]))
    }
    assert [[one.name for one in shown] for shown in predictions.values()] == [
        ['tracks'],
        ['boxes'],
        ['boxes', 'trails'],
    ]
    # Each object is counted and framed once, and has its identity in place of its score.
    assert predictions['boxes'][0].scores is not None and predictions['both'][0].scores is None
    style = replace(STYLE, width_px=1280)
    pictures = {
        key: draw_sample(synthetic.frame(), synthetic.BOX_CLASSES, SampleStructures(None, shown), style=style)
        for key, shown in predictions.items()
    }
    trails = {key: (picture == class_color('track 7')).all(axis=2).sum() for key, picture in pictures.items()}
    assert trails['boxes'] == 0 and trails['tracks'] > 50 and trails['both'] > 50
    legend = np.s_[-200:, -140:]
    assert (pictures['both'][legend] == pictures['boxes'][legend]).all()


def test_the_json_of_a_sample_has_all_that_was_predicted():
    sample = Det3DDataSample(metainfo={'token': 'abc', 'lidar_axes': 'x right, y forward'})
    sample.pred_lanes, sample.pred_tracks, sample.gt_heatmaps = (
        synthetic.lanes(), synthetic.tracks(), synthetic.heatmaps()
    )  # fmt: skip
    content = describe(sample, ['car'])
    assert content.keys() == {'token', 'frame', 'lanes', 'tracks'}
    assert content['frame'] == 'lidar: x right, y forward, z up'
    tracks = Tracks.from_json(content['tracks'])
    np.testing.assert_array_equal(tracks.boxes.boxes, synthetic.tracks().boxes.boxes)


def test_labelled_points_without_images_are_drawn_in_range_views():
    truth = synthetic.point_labels()
    bare = SensorFrame({}, {}, synthetic.frame().points)
    predicted = replace(truth, labels=np.where(truth.labels == 2, 0, truth.labels))
    picture = draw_sample(bare, (), SampleStructures((truth,), (predicted,)), style=STYLE)
    # Below the title two strips 64 pixels high, with gaps of 2; the house is ahead on the left.
    strips = [picture[top : top + 64] for top in (11, 11 + 66)]
    house = [np.nonzero((strip == class_color('building')).all(axis=2)) for strip in strips]
    assert len(house[0][0]) > 100 and not len(house[1][0])
    assert house[0][1].min() > 200 and house[0][1].max() < 320
    single = draw_sample(bare, (), SampleStructures((truth,)), style=STYLE)
    assert len(single) == len(picture) - 66
    without = draw_sample(bare, (), SampleStructures((synthetic.boxes(),)), style=STYLE)
    assert len(without) == len(picture) - 132


def test_near_points_cover_far_ones_in_a_range_view():
    view = RangeView(RangeImage((40, 80), 20, -20), 1)
    points = np.array([[5.0, 0.0, 0.0], [50.0, 0.0, 0.0], [0.0, 5.0, 0.0], [1.0, 0.0, 5.0]])
    pixels, kept = view.points(points)
    # Far ones first; the last one is above the field of view.
    assert kept.tolist() == [1, 0, 2]
    np.testing.assert_allclose(pixels, [[39.5, 19.5], [39.5, 19.5], [19.5, 19.5]])
