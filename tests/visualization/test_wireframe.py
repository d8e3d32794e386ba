"""Wireframes: known pixels of a known box, and cutting at the near plane against dense sampling."""

from __future__ import annotations

import numpy as np
import pytest

from perception3d.geometry.frustum import NEAR_M, clip_polygon, clip_segments, frustum, to_homogeneous
from perception3d.structures.boxes import Boxes
from perception3d.structures.primitives import StructureStyle
from perception3d.structures.views import CameraView
from perception3d.visualization.canvas import clip_to_rectangle, fill, polyline, stroke
from perception3d.visualization.paint import paint

WIDTH, HEIGHT, FOCAL = 320, 240, 80.0
COLOR = (40, 120, 240)
THIN = StructureStyle(thickness_px=1, dash_px=None, opacity=0.0)


def forward_camera() -> np.ndarray:
    """A camera at the LiDAR's place that looks along +y: u = 160 + 80 x / y, v = 120 - 80 z / y, depth y."""
    intrinsics = np.array([[FOCAL, 0, 160], [0, FOCAL, 120], [0, 0, 1]])
    camera_from_lidar = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = intrinsics @ camera_from_lidar
    return matrix


def view() -> CameraView:
    return CameraView('camera', forward_camera(), WIDTH, HEIGHT)


def drawn(*rows: tuple[float, ...], style: StructureStyle = THIN) -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    paint(image, Boxes(rows, [0] * len(rows)).primitives(view(), style), COLOR)
    return image


def lit(image: np.ndarray) -> np.ndarray:
    """Pixels that are mostly covered: an anti-aliased line has a faint pixel on either side."""
    return image[..., 2] > COLOR[2] / 2


def test_known_box_at_known_pixels():
    # x -1..1, y 8..16, z -1..1, heading away: the near face is u 150..170, v 110..130, the far one 155..165, 115..125.
    image = drawn((0, 12, -1, 8, 2, 2, np.pi / 2))
    on_lines = [(150, 120), (170, 120), (160, 110), (160, 130), (155, 120), (165, 120), (160, 115), (160, 125)]
    for u, v in on_lines:
        np.testing.assert_allclose(image[v, u], COLOR, rtol=0.15, err_msg=f'{u}, {v}')
    rows, columns = np.nonzero(lit(image))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (150, 170, 110, 130)
    assert not image[112:114, 158:162].any() and not image[118:122, 158:162].any()


def test_front_face_is_the_tinted_one():
    style = StructureStyle(thickness_px=1, dash_px=None, opacity=0.5)
    facing_away = drawn((0, 12, -1, 8, 2, 2, np.pi / 2), style=style)
    facing_us = drawn((0, 12, -1, 8, 2, 2, -np.pi / 2), style=style)
    # Between the rectangles there is only the near face.
    assert not facing_away[120, 152].any()
    np.testing.assert_allclose(facing_us[120, 152], np.array(COLOR) / 2, atol=2)
    np.testing.assert_allclose(facing_away[120, 160], np.array(COLOR) / 2, atol=2)


def test_box_partly_behind_the_camera_is_not_flipped():
    # x 2..4, y -2..6: a division by negative depth would throw corners to the left half of the image.
    image = drawn((3, 2, -1, 8, 2, 2, np.pi / 2))
    rows, columns = np.nonzero(lit(image))
    assert len(columns) > 100
    assert columns.min() >= 160 + FOCAL * 2 / 6 - 1
    # The edge x = 2, z = -1 runs to the border of the image: u - 160 = 160 / y, v - 120 = 80 / y.
    for u in (200, 240, 280, 318):
        assert lit(image)[120 + (u - 160) // 2, u]


def test_box_behind_the_camera_draws_nothing():
    behind = Boxes([(0, -12, -1, 4, 2, 2, 0.3)], [0])
    assert behind.primitives(view(), THIN) == []
    assert not drawn((0, -12, -1, 4, 2, 2, 0.3)).any() and not drawn().any()


def test_far_boxes_are_drawn_below_near_ones():
    near, far = (0, 12, -1, 8, 2, 2, np.pi / 2), (0, 24, -2, 16, 4, 4, np.pi / 2)
    # The near face of the second box, at y 16, covers the same pixels as that of the first, at y 8.
    for boxes in (Boxes([near, far], [0, 1]), Boxes([far, near], [1, 0])):
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for primitive in boxes.primitives(view(), THIN):
            paint(image, [primitive], COLOR if primitive.labels[0] == 0 else (255, 0, 0))
        assert image[120, 150, 2] > 0.8 * COLOR[2]


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_cut_segments_agree_with_dense_sampling(seed: int):
    rng = np.random.default_rng(seed)
    ends = rng.uniform(-15, 15, (60, 2, 3))
    planes = frustum(WIDTH, HEIGHT, margin_px=0.0)
    segments = to_homogeneous(ends, forward_camera())
    cut, kept = clip_segments(segments, planes)
    assert np.isfinite(cut).all()
    steps = np.linspace(0, 1, 20001)[:, None]
    for number, (start, end) in enumerate(segments):
        samples = start + steps * (end - start)
        inside = samples[(samples @ planes[:, :3].T + planes[:, 3] >= 0).all(axis=1)]
        if len(inside) < 20:
            # Grazes a corner of the frustum: too short for the sampling to tell.
            continue
        found = cut[np.flatnonzero(kept == number)[0]]
        expected = inside[[0, -1], :2] / inside[[0, -1], 2:]
        # A step of the sampling is many pixels next to the near plane, so that the bound follows the depth.
        tolerance = 0.5 + 1.0 / np.maximum(inside[[0, -1], 2:], NEAR_M)
        assert (np.abs(found - expected) < tolerance).all()
    outside = set(range(len(segments))) - set(kept.tolist())
    for number in outside:
        start, end = segments[number]
        samples = start + steps * (end - start)
        assert (samples @ planes[:, :3].T + planes[:, 3] >= 0).all(axis=1).sum() < 20


def test_polygon_larger_than_the_image_becomes_the_image():
    wall = np.array([[-500, 5, -500], [500, 5, -500], [500, 5, 500], [-500, 5, 500]], np.float64)
    cut = clip_polygon(to_homogeneous(wall, forward_camera()), frustum(WIDTH, HEIGHT, margin_px=0.0))
    np.testing.assert_allclose([cut.min(axis=0), cut.max(axis=0)], [[0, 0], [WIDTH - 1, HEIGHT - 1]], atol=1e-9)
    # A floor that reaches from behind the camera to the horizon fills the lower half only.
    floor = np.array([[-500, -50, -1], [500, -50, -1], [500, 1e6, -1], [-500, 1e6, -1]], np.float64)
    cut = clip_polygon(to_homogeneous(floor, forward_camera()), frustum(WIDTH, HEIGHT, margin_px=0.0))
    assert cut[:, 1].min() == pytest.approx(120, abs=0.1) and cut[:, 1].max() == pytest.approx(HEIGHT - 1)
    assert not len(clip_polygon(to_homogeneous(wall * [1, -1, 1], forward_camera()), frustum(WIDTH, HEIGHT)))


def test_strokes_far_outside_and_not_finite_are_harmless():
    canvas = np.zeros((20, 30, 3), np.uint8)
    stroke(canvas, np.array([[[-1e9, 10], [1e9, 10]], [[np.nan, 0], [5, 5]], [[100, 100], [200, 200]]]), COLOR)
    assert lit(canvas)[10, 2:-2].all() and not lit(canvas)[:10].any() and not canvas[13:].any()
    cut = clip_to_rectangle(np.array([[[-10.0, 5], [50, 5]], [[5.0, -3], [5, -1]]]), 30, 20)
    np.testing.assert_allclose(cut, [[[0, 5], [29, 5]]])


def test_dashes_keep_the_corners_and_leave_gaps():
    canvas = np.zeros((9, 100, 3), np.uint8)
    stroke(canvas, np.array([[[10.0, 4], [89, 4]]]), (255, 255, 255), 1, dash_px=(7, 5))
    lit = canvas[4, :, 0] > 128
    assert lit[10] and lit[89] and not lit[:9].any() and not lit[91:].any()
    runs = np.diff(np.flatnonzero(np.diff(lit.astype(int))))[::2]
    assert 5 <= len(runs) <= 8 and (np.abs(runs - 8) <= 2).all()
    # Too short for two dashes: drawn whole.
    stroke(canvas, np.array([[[10.0, 7], [18, 7]]]), (255, 255, 255), 1, dash_px=(7, 5))
    assert (canvas[7, 10:19, 0] > 128).all()


def test_fill_mixes_by_opacity():
    canvas = np.full((20, 20, 3), 100, np.uint8)
    square = np.array([[5.0, 5], [14, 5], [14, 14], [5, 14]])
    fill(canvas, [square], [(200, 0, 100)], 0.25)
    np.testing.assert_allclose(canvas[10, 10], [125, 75, 100], atol=1)
    assert (canvas[2, 2] == 100).all()
    assert polyline(square).shape == (4, 2, 2)
