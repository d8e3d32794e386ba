"""BEV view, palette, layout, and the whole picture of a sample."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from drawn import draw_cameras, draw_sample

from perception3d.checks import InputError
from perception3d.formats.nuscenes_lidarseg.files import CLASSES as LIDARSEG
from perception3d.formats.semantickitti.files import CLASSES as SEMANTICKITTI
from perception3d.formats.semantickitti.files import MULTI_SCAN_CLASSES
from perception3d.structures.boxes import Boxes
from perception3d.structures.primitives import StructureStyle
from perception3d.structures.views import square_view
from perception3d.visualization.bev import BACKGROUND, draw_background
from perception3d.visualization.draw import PictureStyle, title_line
from perception3d.visualization.layout import camera_grid, fit_images
from perception3d.visualization.paint import paint
from perception3d.visualization.palette import class_color, class_colors

CLASSES = [
    'car', 'truck', 'trailer', 'bus', 'construction_vehicle', 'bicycle', 'motorcycle', 'pedestrian', 'traffic_cone',
    'barrier',
]  # fmt: skip
SMALL = PictureStyle(width_px=640)


def camera(height: int, width: int, yaw_deg: float = 0.0) -> np.ndarray:
    """A camera in the LiDAR's place, level, that looks `yaw_deg` to the left of forward; 90 degrees wide."""
    turn = np.deg2rad(yaw_deg)
    right = np.array([np.cos(turn), np.sin(turn), 0])
    ahead = np.array([-np.sin(turn), np.cos(turn), 0])
    intrinsics = np.array([[width / 2, 0, width / 2], [0, width / 2, height / 2], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = intrinsics @ np.array([right, [0, 0, -1], ahead])
    return matrix


def views(sizes: dict[str, tuple[int, int]]) -> tuple[dict, dict]:
    images = {name: np.full((*size, 3), 90, np.uint8) for name, size in sizes.items()}
    return images, {name: camera(*size) for name, size in sizes.items()}


def one_car(score: float | None = None) -> Boxes:
    return Boxes([[0, 12, -1, 8, 2, 2, np.pi / 2, 0, 3]], [0], None if score is None else [score])


def changed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first != second).any(axis=2)


class TestBev:
    view = square_view(half_range_m=40.0, size_px=400)

    def boxes(self, *rows: tuple[float, ...]) -> np.ndarray:
        """Pixels that a box changes in an empty panel."""
        empty = draw_background(self.view, None)
        panel = empty.copy()
        paint(panel, Boxes(rows, [0] * len(rows)).primitives(self.view, StructureStyle()))
        return changed(empty, panel)

    def test_forward_is_up_and_left_is_left(self):
        # 5 pixels a metre: (-10, 20) is 150, 100 as seen from the corner of the picture.
        rows, columns = np.nonzero(self.boxes((-10, 20, 0, 4, 2, 1.5, np.pi / 2)))
        assert abs(columns.mean() - 149.5) < 1.5 and abs(rows.mean() - 98.5) < 2.5
        assert rows.max() < 200 and columns.max() < 200
        # Long side along the heading, which is up; the tick goes beyond the front.
        assert abs(np.ptp(columns) - 11) <= 1 and abs(rows.max() - 110) <= 1 and rows.min() < 89

    def test_tick_points_where_the_yaw_points(self):
        rows, columns = np.nonzero(self.boxes((0, 20, 0, 4, 2, 1.5, 0.0)))
        assert columns.max() - 199.5 > 199.5 - columns.min() + 1
        rows, columns = np.nonzero(self.boxes((0, 20, 0, 4, 2, 1.5, np.pi)))
        assert 199.5 - columns.min() > columns.max() - 199.5 + 1

    def test_velocity_arrow_is_a_second_long(self):
        box = (10, -20, 0, 4, 2, 1.5, 0.0)
        standing = self.boxes((*box, 0, 0))
        moving = self.boxes((*box, 0, 8.0))
        # From v = 300 to 40 pixels further up.
        assert abs(np.nonzero(moving)[0].min() - (299.5 - 40)) <= 2
        unknown = self.boxes((*box, np.nan, np.nan))
        assert (standing == unknown).all() and (standing == self.boxes(box)).all()

    def test_points_light_their_pixel(self):
        empty = draw_background(self.view, None)
        panel = draw_background(self.view, np.array([[3.1, 4.1, 0.0, 9.0], [np.nan, 1, 1, 1], [900, 0, 0, 0]]))
        assert np.argwhere(changed(empty, panel)).tolist() == [[179, 215]]
        assert (empty[2, 2] == BACKGROUND).all()

    def test_high_points_are_brighter(self):
        panel = draw_background(self.view, np.array([[3.1, 4.1, -2.0], [13.1, 4.1, 2.0]]))
        assert panel[179, 265].sum() > panel[179, 215].sum() + 100


class TestPalette:
    def test_same_colour_everywhere(self):
        assert (class_colors(CLASSES)[3] == class_color('bus')).all()
        assert class_color('Pedestrian') == class_color('pedestrian') == class_color('person')
        assert class_color('Cyclist') == class_color('bicycle')
        assert class_color('driveable surface') == class_color('road')
        assert class_color('hovercraft') == class_color('hovercraft') != class_color('submarine')
        assert class_colors([]).shape == (0, 3)
        # A moving object has the hue of a standing one.
        np.testing.assert_allclose(class_color('moving-car'), 0.7 * np.array(class_color('car')), atol=1)
        assert len(set(map(class_color, MULTI_SCAN_CLASSES))) == 25

    @pytest.mark.parametrize('names', [(*CLASSES, 'trunk', 'terrain'), (*SEMANTICKITTI, 'wrong'), (*LIDARSEG, 'wrong')])
    def test_colours_are_apart_and_bright(self, names):
        lab = cv2.cvtColor(class_colors(names).reshape(1, -1, 3).astype(np.float32) / 255, cv2.COLOR_BGR2LAB)[0]
        nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))
        assert nearest > 25, nearest
        assert lab[:, 0].min() > 50


class TestLayout:
    def test_natural_places(self):
        names = ['CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_FRONT_LEFT', 'CAM_BACK', 'CAM_BACK_LEFT', 'CAM_BACK_RIGHT']
        assert camera_grid(names) == {
            'CAM_FRONT_LEFT': (0, 0), 'CAM_FRONT': (0, 1), 'CAM_FRONT_RIGHT': (0, 2),
            'CAM_BACK_LEFT': (1, 0), 'CAM_BACK': (1, 1), 'CAM_BACK_RIGHT': (1, 2),
        }  # fmt: skip

    def test_side_cameras_and_unknown_names(self):
        assert camera_grid(['FRONT', 'FRONT_LEFT', 'FRONT_RIGHT', 'SIDE_LEFT', 'SIDE_RIGHT']) == {
            'FRONT_LEFT': (0, 0), 'FRONT': (0, 1), 'FRONT_RIGHT': (0, 2), 'SIDE_LEFT': (1, 0), 'SIDE_RIGHT': (1, 2),
        }  # fmt: skip
        assert camera_grid(['image_2']) == {'image_2': (0, 0)}
        seven = camera_grid([f'camera {i}' for i in range(7)])
        assert len(set(seven.values())) == 7 and max(row for row, _ in seven.values()) == 2
        assert len(set(camera_grid(['front_a', 'front_b', 'left']).values())) == 3

    def test_unequal_sizes_keep_their_aspect_and_do_not_overlap(self):
        images = {'FRONT': np.zeros((90, 160, 3), np.uint8), 'BACK': np.zeros((96, 256, 3), np.uint8)}
        scaled, scales, places, (width, height) = fit_images(images, 640, 1000)
        assert scaled['FRONT'].shape == (360, 640, 3) and scaled['BACK'].shape == (240, 640, 3)
        assert scales == {'FRONT': 4.0, 'BACK': 2.5}
        assert places['FRONT'][1] + 360 <= places['BACK'][1] and places['BACK'][1] + 240 <= height and width == 640


class TestSample:
    def test_camera_box_is_where_the_scaled_projection_says(self):
        images, matrices = views({'CAM_FRONT': (240, 320)})
        empty = draw_cameras(images, matrices, CLASSES, style=SMALL)
        drawn = draw_cameras(images, matrices, CLASSES, ground_truth=one_car(), style=SMALL)
        # One camera may be 180 pixels high here, so the image is scaled by 0.75 to 240 x 180 and centred in 640.
        # Its near face, y = 8, is u 140..180, v 100..140 of the 320 x 240 image.
        rows, columns = np.nonzero(np.abs(drawn.astype(int) - empty).max(axis=2) > 60)
        left = (640 - 240) // 2
        expected = np.array([left + 140 * 0.75, left + 180 * 0.75, 100 * 0.75, 140 * 0.75])
        np.testing.assert_allclose([columns.min(), columns.max(), rows.min(), rows.max()], expected, atol=1.5)

    def test_mirrored_image_with_its_matrix_gives_the_mirrored_drawing(self):
        images, matrices = views({'CAM_FRONT': (96, 256)})
        mirror = np.eye(4)
        mirror[0, 0], mirror[0, 2] = -1, 256
        boxes = Boxes([[-4, 12, -1, 4, 2, 2, 0.3], [5, 9, -1, 4, 2, 2, 2.0]], [0, 7])
        image = np.full((96, 256, 3), 90, np.uint8)
        straight = draw_cameras({'CAM_FRONT': image}, matrices, CLASSES, ground_truth=boxes, style=SMALL)
        mirrored = draw_cameras(
            {'CAM_FRONT': image}, {'CAM_FRONT': mirror @ matrices['CAM_FRONT']}, CLASSES, boxes, style=SMALL
        )
        # Below the name of the camera. Half a pixel of error would shift every line.
        difference = np.abs(straight[30:].astype(int) - mirrored[30:, ::-1].astype(int))
        assert difference.mean() < 0.1 and changed(straight[30:], mirrored[30:]).sum() > 500

    def test_class_colour_shows_in_cameras_and_bird_view(self):
        images, matrices = views({'CAM_FRONT': (240, 320)})
        for label in (0, 7):
            boxes = Boxes([[0, 12, -1, 8, 2, 2, np.pi / 2]], [label], [0.9])
            picture = draw_sample(images, matrices, CLASSES, predictions=boxes, style=PictureStyle(width_px=960))
            exact = (picture == class_color(CLASSES[label])).all(axis=2)
            other = (picture == class_color('bus')).all(axis=2)
            cameras_end = round(34 / 2) + 270
            # Outside the legend, which has every colour.
            assert exact[:cameras_end].sum() > 20 and exact[cameras_end:, :800].sum() > 20
            assert not other[:, :800].any()

    def test_ground_truth_and_prediction_look_different(self):
        images, matrices = views({'CAM_FRONT': (240, 320)})
        pictures = [
            draw_sample(images, matrices, CLASSES, ground_truth=one_car(), style=SMALL),
            draw_sample(images, matrices, CLASSES, predictions=one_car(0.5), style=SMALL),
            draw_sample(images, matrices, CLASSES, ground_truth=one_car(), predictions=one_car(0.5), style=SMALL),
        ]
        for first, second in itertools.combinations(pictures, 2):
            assert changed(first, second).sum() > 50

    def test_empty_prediction_is_not_no_prediction(self):
        images, matrices = views({'CAM_FRONT': (96, 256)})
        nothing = Boxes(np.zeros((0, 9)), np.zeros(0), np.zeros(0))
        with_empty = draw_sample(images, matrices, CLASSES, one_car(), nothing, style=SMALL)
        without = draw_sample(images, matrices, CLASSES, one_car(), None, style=SMALL)
        # Only the legend tells them apart.
        rows, columns = np.nonzero(changed(with_empty, without))
        assert len(columns) and columns.min() >= 640 - round(232 / 3) - 8

    @pytest.mark.parametrize('number', [0, 1, 2, 5, 8])
    def test_any_number_of_cameras_of_any_size(self, number: int):
        images, matrices = views({f'camera {i}': (40 + 10 * i, 120 + 30 * (i % 3)) for i in range(number)})
        picture = draw_sample(images, matrices, CLASSES, one_car(), one_car(0.4), style=SMALL)
        assert picture.dtype == np.uint8 and picture.shape[1] == 640 and picture.shape[0] > 250

    def test_same_input_same_bytes_and_inputs_untouched(self):
        images, matrices = views({'CAM_FRONT': (96, 256), 'CAM_BACK': (96, 256)})
        before = {name: image.copy() for name, image in images.items()}
        points = np.random.default_rng(0).uniform(-30, 30, (500, 5)).astype(np.float32)
        arguments = (images, matrices, CLASSES, one_car(), one_car(0.3), points, 'title')
        assert (draw_sample(*arguments, style=SMALL) == draw_sample(*arguments, style=SMALL)).all()
        assert all((before[name] == images[name]).all() for name in images)

    def test_not_finite_boxes_and_foreign_labels(self):
        images, matrices = views({'CAM_FRONT': (96, 256)})
        boxes = Boxes([[np.nan] * 9, [0, 12, -1, 8, 2, 2, 1.0, 0, 0], [3, 12, -1, 8, 2, 2, 1.0, 0, 0]], [0, 99, -1])
        picture = draw_sample(images, matrices, CLASSES, boxes, style=SMALL)
        plain = draw_sample(images, matrices, CLASSES, boxes.select([1, 2]), style=SMALL)
        rows, columns = np.nonzero(changed(picture, plain))
        # The note about the box that was left out is in the legend.
        assert len(columns) and columns.min() >= 640 - round(232 / 3) - 8

    def test_mistakes_are_named(self):
        images, matrices = views({'CAM_FRONT': (96, 256)})
        with pytest.raises(InputError, match="'CAM_FRONT' has no img_from_lidar"):
            draw_sample(images, {'CAM_BACK': np.eye(4)}, CLASSES)
        with pytest.raises(InputError, match='uint8 in BGR'):
            draw_sample({'CAM_FRONT': np.zeros((96, 256, 3))}, matrices, CLASSES)
        with pytest.raises(InputError, match=r'boxes \(2, 9\) and labels \(1,\)'):
            Boxes(np.zeros((2, 9)), [0])
        with pytest.raises(InputError, match='one score a box'):
            Boxes(np.zeros((2, 9)), [0, 1], [0.5])
        with pytest.raises(InputError, match='320 or more'):
            PictureStyle(width_px=10)


def test_title_line():
    full = title_line('abc', 'scene-0061', 1532402927.6479, 'as stored')
    assert full == 'sample abc   scene scene-0061   2018-07-24 03:28:47 UTC   1532402927.648 s   as stored'
    assert title_line(time_s=12.5) == '12.500 s'
    assert title_line() == ''
