"""Structures: JSON gives back the same numbers, known coordinates in each view, mistakes are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import synthetic_structures as synthetic
import torch
from mmdet3d.structures import CameraInstance3DBoxes, Det3DDataSample, LiDARInstance3DBoxes, PointData
from mmengine.structures import InstanceData

from perception3d.checks import InputError
from perception3d.geometry.frustum import NEAR_M, near_plane_crossings
from perception3d.structures.boxes import Boxes
from perception3d.structures.frame import LidarAxes, SensorFrame
from perception3d.structures.heatmaps import Heatmaps
from perception3d.structures.lanes import Lanes
from perception3d.structures.point_labels import PointLabels
from perception3d.structures.sample import boxes_of, resolve, structures_of
from perception3d.structures.tracks import Tracks
from perception3d.structures.views import BevView, CameraView, View3D

EMPTY = (
    Boxes(np.zeros((0, 7)), np.zeros(0)),
    Lanes((), np.zeros(0)),
    PointLabels(np.zeros(0), np.zeros(0)),
    Heatmaps(np.zeros((0, 4, 5))),
    Tracks(Boxes(np.zeros((0, 9)), np.zeros(0)), np.zeros(0), ()),
)
# 10 pixels a metre, 4 m behind to 36 m ahead, 10 m to both sides; x is forward.
BEV = BevView((-10.0, 10.0), (-4.0, 36.0), 200, (1, 0))
CAMERA = CameraView('CAM_FRONT', synthetic.front_camera(), 640, 360, np.eye(3), image_wh=(640, 360))


def same(first: object, second: object) -> bool:
    """Whether two structures hold the same types and numbers, bit by bit."""
    if isinstance(first, np.ndarray):
        return (first.dtype, first.shape, first.tobytes()) == (second.dtype, second.shape, second.tobytes())
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if hasattr(first, 'to_json'):
        return type(first) is type(second) and all(same(vars(first)[key], vars(second)[key]) for key in vars(first))
    return first == second


@pytest.mark.parametrize('structure', [*(make() for make in synthetic.ALL), *EMPTY], ids=lambda s: f'{s.name}')
def test_json_gives_back_the_same_numbers(structure):
    rng = np.random.default_rng(1)
    if structure.name == 'boxes' and len(structure):
        structure = Boxes(rng.normal(size=(5, 9)) * 1e3, [0, 1, 1, 0, 7], rng.random(5) / 3, classes=('a', 'b'))
    text = json.dumps(structure.to_json(), allow_nan=False)
    assert same(type(structure).from_json(json.loads(text)), structure)


def test_json_of_something_else_is_named():
    with pytest.raises(InputError, match="expected 'structure': 'lanes', got 'boxes'"):
        Lanes.from_json(synthetic.boxes().to_json())
    with pytest.raises(InputError, match='has other fields: expected boxes, classes, labels, scores'):
        Boxes.from_json({'structure': 'boxes', 'boxes': []})
    with pytest.raises(InputError, match='infinite'):
        Boxes([[np.inf] * 7], [0]).to_json()


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: Boxes(np.zeros((2, 9)), [0]), r'boxes \(2, 9\) and labels \(1,\)'),
        (lambda: Boxes(np.zeros((1, 9)), [0], classes='car'), 'expected a sequence of class names'),
        (lambda: Lanes((np.zeros((3, 2)), np.zeros((3, 3))), [0, 0]), 'expected all .M, 2. pixels or all'),
        (lambda: Lanes((np.zeros((1, 2)),), [0]), 'M 2 or more'),
        (lambda: Lanes((np.full((2, 3), np.nan),), [0]), 'polyline 0: expected finite numbers, got 6'),
        (lambda: Lanes((np.zeros((2, 3)),), [0, 1]), r'labels of lanes: expected the shape \(1\), got \(2,\)'),
        (lambda: PointLabels([0.5]), 'point labels: expected whole numbers'),
        (lambda: PointLabels(['road']), 'point labels: expected an array of numbers'),
        (lambda: PointLabels([0, 1], [1]), 'instances of points: expected the shape'),
        (lambda: Heatmaps(np.zeros((4, 4))), r'heatmaps: expected the shape \(N, N, N\), got \(4, 4\)'),
        (lambda: Heatmaps(np.full((1, 2, 2), 2.0)), 'values in 0..1, got 2 to 2'),
        (lambda: Heatmaps(np.zeros((1, 2, 2)), (0, 0, -1, 5)), 'low before high'),
        (lambda: Tracks(synthetic.boxes(), [1, 1, 2]), 'each identity once'),
        (lambda: Tracks(synthetic.boxes(), [1, 2, 3], ()), 'expected 3 arrays, one a box, got 0'),
        (lambda: Tracks(synthetic.boxes(), [1, 2, 3], [[[0, 0, np.nan]]] * 3), 'history 0: expected finite'),
        (lambda: SensorFrame({'a': np.ones((2, 2, 3), np.uint8)}, {'b': np.eye(4)}), "'a' has no img_from_lidar"),
        (lambda: SensorFrame(img_from_lidar={'a': np.eye(3)}), r"'a': expected finite \(4, 4\) or \(3, 4\)"),
        (lambda: SensorFrame(points=np.zeros((4, 2))), r'points: expected \(N, 3 or more\)'),
        (lambda: LidarAxes((1, 1)), r'forward \(1, 1\): expected one of'),
        (lambda: LidarAxes.from_text('x forward'), "unknown lidar_axes 'x forward'"),
        (lambda: PointLabels([0, 1]).for_frame(synthetic.frame()), '2 point labels came with 9500 points'),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_axes_are_the_same_in_words():
    for forward in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        assert LidarAxes.from_text(LidarAxes(forward).text) == LidarAxes(forward)


def test_lanes_in_metres_are_cut_at_the_near_plane_and_seen_from_above():
    # From 10 m behind the camera to 10 m ahead, 1 m to the left, 2 m below: u = 320 - 400 / x, v = 150 + 800 / x.
    lanes = Lanes((np.array([[-10.0, 1, -2], [10, 1, -2]]),), [0], classes=('line',))
    (lines,) = lanes.primitives(CAMERA)
    np.testing.assert_allclose(lines.segments[0, 1], [280, 230], atol=1e-9)
    assert lines.segments[0, 0, 1] <= 364 and lines.segments[0, 0, 0] < 280 and lines.class_names == ['line']
    (lines,) = lanes.primitives(BEV)
    # 10 pixels a metre, the LiDAR at (99.5, 359.5); left is left.
    np.testing.assert_allclose(lines.segments, [[[89.5, 459.5], [89.5, 259.5]]])
    (lines,) = lanes.primitives(View3D())
    np.testing.assert_allclose(lines.segments[0], lanes.polylines[0])


def test_lanes_of_an_image_are_in_its_view_alone():
    lanes = Lanes((np.array([[10.0, 20], [30, 40], [50, 20]]),), [0], camera='CAM_FRONT')
    half = CameraView('CAM_FRONT', np.eye(4), 320, 180, np.diag([0.5, 0.5, 1.0]))
    (lines,) = lanes.primitives(half)
    assert lines.segments.tolist() == [[[5, 10], [15, 20]], [[15, 20], [25, 10]]]
    other = CameraView('CAM_BACK', np.eye(4), 320, 180)
    assert lanes.primitives(other) == lanes.primitives(BEV) == lanes.primitives(View3D()) == []


def test_point_labels_are_at_their_points():
    points = np.array([[10.0, 0, 0], [20, 5, -1], [-5, 0, 0], [12, 2, 0], [np.nan] * 3])
    labels = PointLabels([0, 1, 0, 9, 0], [1, 2, 3, 4, 5], classes=('road', 'pole')).for_frame(
        SensorFrame(points=points)
    )
    (seen,) = labels.primitives(CAMERA)
    # Far ones first, none behind, none of an unknown label, none without a place.
    np.testing.assert_allclose(seen.positions, [[220, 170], [320, 150]])
    assert seen.class_names == ['pole', 'road'] and labels.counts().tolist() == [2, 1, 0]
    (above,) = labels.primitives(BEV)
    np.testing.assert_allclose(above.positions, [[49.5, 159.5], [99.5, 259.5]])
    assert above.class_names == ['pole', 'road']
    (space,) = labels.primitives(View3D())
    assert len(space.positions) == 3


def test_heatmaps_lie_on_their_range_or_image():
    values = np.zeros((2, 40, 20), np.float32)
    values[1, 30, 4] = 0.9  # x 26 to 27 m ahead, y -6 to -5 m
    maps = Heatmaps(values, (-4, -10, 36, 10), classes=('a', 'b'))
    (raster,) = maps.primitives(BEV)
    pixel = raster.canvas_from_map @ [4, 30, 1]
    np.testing.assert_allclose(pixel, BEV.to_pixels(np.array([26.5, -5.5])))
    assert raster.class_names == ['b'] and maps.primitives(CAMERA) == []
    (space,) = maps.primitives(View3D())
    np.testing.assert_allclose(space.positions, [[26.5, -5.5, 0]])
    (raster,) = Heatmaps(values).primitives(CAMERA)
    # A cell of the image is 32 x 9 pixels.
    np.testing.assert_allclose(raster.canvas_from_map @ [4, 30, 1], [4.5 * 32, 30.5 * 9])


def test_tracks_have_their_identity_and_trail():
    tracks = synthetic.tracks()
    trails, *rest = tracks.primitives(BEV)
    # Six places and the box of now make six segments; two and now make two; the car just seen has none.
    assert len(trails.segments) == 8 and trails.class_names == ['track 7'] * 6 + ['track 3'] * 2
    np.testing.assert_allclose(trails.segments[5, 1], BEV.to_pixels(tracks.boxes.boxes[0, :2]))
    assert rest[-1].texts == ('#7', '#12', '#3')
    assert tracks.above(0.6).ids.tolist() == [7, 12] and len(tracks.above(0.6).history) == 2
    nameless = Tracks(Boxes(tracks.boxes.boxes, tracks.boxes.labels), tracks.ids).with_classes(['x', 'y'])
    assert nameless.boxes.classes == nameless.classes == ('x', 'y')


def test_boxes_for_readers_have_metres_and_classes():
    entries = synthetic.boxes().describe()['boxes']
    assert [entry['class'] for entry in entries] == ['car', 'car', 'pedestrian'] and entries[0]['score'] == 0.91
    np.testing.assert_allclose(entries[0]['center_m'], [14, 2, -1], atol=1e-6)
    np.testing.assert_allclose(
        entries[0]['size_lwh_m'] + entries[0]['velocity_mps'], [4.2, 1.8, 1.6, 6, 0.2], atol=1e-6
    )
    assert 'velocity_mps' not in Boxes(np.zeros((1, 7)), [0], classes=('car',)).describe()['boxes'][0]


def test_near_plane_crossings_are_on_the_segment_and_the_plane():
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, 50, 3))
    cuts, crosses = near_plane_crossings(start, end)
    assert (crosses == ((start[:, 2] < NEAR_M) != (end[:, 2] < NEAR_M))).all() and 5 < crosses.sum() < 45
    np.testing.assert_allclose(cuts[crosses, 2], NEAR_M)
    off_line = np.cross(cuts - start, end - start)[crosses]
    np.testing.assert_allclose(off_line, 0, atol=1e-12)


class TestSample:
    def test_a_sample_tells_all_that_it_carries(self):
        sample = Det3DDataSample()
        for make in synthetic.ALL[:3]:
            setattr(sample, f'gt_{make.__name__}', make())
        sample.pred_tracks = synthetic.tracks()
        # float32 has no such number.
        ids = torch.tensor([0, 16777217, 4])
        sample.pred_pts_seg = PointData(pts_semantic_mask=torch.tensor([1, 0, 2]), pts_instance_mask=ids)
        sample.gt_pts_seg = PointData()
        boxes = synthetic.boxes()
        sample.pred_instances_3d = InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(torch.tensor(boxes.boxes), box_dim=9),
            labels_3d=torch.tensor(boxes.labels),
            scores_3d=torch.tensor(boxes.scores),
        )
        carried = structures_of(sample)
        assert {one.name for one in carried.ground_truth} == {'point_labels', 'heatmaps', 'lanes'}
        assert [one.name for one in carried.predictions].count('point_labels') == 1 and len(carried.predictions) == 3
        labels = next(one for one in carried.predictions if one.name == 'point_labels')
        assert labels.instances.tolist() == ids.tolist()
        kept = resolve(carried.predictions, ('x', 'y'), 0.6)
        assert [len(one) for one in kept if one.name in ('boxes', 'tracks')] == [2, 2]
        assert kept[0].classes == ('x', 'y') and {one.classes for one in kept[1:]} == {
            ('x', 'y'),
            ('car', 'pedestrian'),
        }
        assert structures_of(Det3DDataSample()).ground_truth is None is structures_of(Det3DDataSample()).predictions

    def test_boxes_of_a_data_set_and_of_other_frames(self):
        truth = dict(gt_bboxes_3d=np.ones((2, 7)), gt_labels_3d=np.array([0, 1]))
        (boxes,) = structures_of({'eval_ann_info': truth}).ground_truth
        assert boxes.boxes.shape == (2, 7) and structures_of({'eval_ann_info': truth}).predictions is None
        with pytest.raises(InputError, match='to the LiDAR frame first'):
            boxes_of(InstanceData(bboxes_3d=CameraInstance3DBoxes(torch.zeros(1, 7)), labels_3d=torch.zeros(1)))


def test_labels_of_the_first_points():
    labels = PointLabels([0, 1, 2], instances=[5, 6, 7], points=np.eye(3))
    first = labels.of_points(2)
    assert first.labels.tolist() == [0, 1] and first.instances.tolist() == [5, 6] and len(first.points) == 2
    assert len(labels.of_points(None)) == 3
