"""Pictures of images without a LiDAR: lanes and masks lie where they are, on disk and as they enter a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.structures import Det3DDataSample
from mmengine.structures import PixelData

from perception3d.apis.inferencer import describe
from perception3d.checks import InputError
from perception3d.files import write_image
from perception3d.structures.boxes import Boxes
from perception3d.structures.frame import SensorFrame
from perception3d.structures.heatmaps import Heatmaps
from perception3d.structures.lanes import Lanes, cut_into_dashes
from perception3d.structures.pixel_labels import PixelLabels
from perception3d.structures.sample import SampleStructures, structures_of
from perception3d.visualization.compare import Column
from perception3d.visualization.compare_images import draw_image_comparison
from perception3d.visualization.draw import PictureStyle, draw_sample
from perception3d.visualization.palette import class_color
from perception3d.visualization.sample import read_frame
from perception3d.visualization.view3d import draw_scene
from perception3d.visualization.visualizer import MultiViewVisualizer

CLASSES = ('left', 'right')
# 539 pixels of image and 74 of legend below 11 of title: 400 x 200 pixels are shown 1.35 times as large.
WIDTH, TITLE, IMAGE_PX = 613, 11, 539
STYLE = PictureStyle(width_px=WIDTH)
# Crops the upper 100 rows of 400 x 200 pixels, then halves what is left: 200 x 50.
CROPPED = np.array([[0.5, 0, 0, 0], [0, 0.5, -50, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def lane(x: float, label: int, score: float | None = None) -> Lanes:
    """A lane straight up from the lower border, to row 120 of 200."""
    points = np.column_stack([np.full(21, x), np.linspace(200, 120, 21)])
    return Lanes((points,), [label], None if score is None else [score])


def frame(color=(90, 60, 30)) -> SensorFrame:
    return SensorFrame({'front': np.full((200, 400, 3), color, np.uint8)})


def columns_of(picture: np.ndarray, color) -> tuple[float, float, float, float]:
    """Where a colour is in the image: left, right, top, bottom, in pixels of 400 x 200."""
    scale = IMAGE_PX / 400
    rows, columns = np.nonzero((picture[TITLE:, :IMAGE_PX] == color).all(axis=2))
    return tuple(round(float(value) / scale) for value in (columns.min(), columns.max(), rows.min(), rows.max()))


def test_lanes_are_on_the_image_and_the_legend_is_next_to_it():
    carried = SampleStructures((lane(100, 0),), (lane(300, 1, 0.75),))
    picture = draw_sample(frame(), CLASSES, carried, 'a title', (), STYLE)
    assert picture.shape == (TITLE + round(200 * IMAGE_PX / 400), WIDTH, 3)
    for name, x in (('left', 100), ('right', 300)):
        left, right, top, bottom = columns_of(picture, class_color(name))
        assert abs(left - x) <= 5 and abs(right - x) <= 26 and abs(top - 120) <= 3 and bottom >= 195
    shown = (picture[TITLE:, :IMAGE_PX] == class_color('left')).all(axis=2)
    # The truth is dashed: rows with and without it take turns, though each of its segments is shorter than a dash.
    along = shown[round(125 * IMAGE_PX / 400) : round(195 * IMAGE_PX / 400)].any(axis=1)
    assert 3 <= np.abs(np.diff(along.astype(int))).sum() <= 14
    counted = picture[TITLE:, IMAGE_PX:]
    assert all((counted == class_color(name)).all(axis=2).any() for name in CLASSES)


def test_a_lane_follows_the_crop_of_the_image_and_red_stays_red():
    image = torch.zeros((3, 50, 200), dtype=torch.uint8)
    image[0] = 200
    metas = {'img_from_stored': CROPPED[None], 'stored_hw': [(200, 400)], 'cam_names': ['front'], 'img_paths': ['x']}
    seen, _ = read_frame({**metas, 'channel_order': 'rgb'}, image)
    assert seen.has_images_alone and seen.images['front'][0, 0].tolist() == [0, 0, 200]
    assert read_frame(metas, image[None])[0].images['front'][0, 0].tolist() == [200, 0, 0]
    picture = draw_sample(seen, CLASSES, SampleStructures(None, (lane(100, 0),)), style=STYLE)
    # In the cropped image the lane begins in row 10 of 50, and the picture shows 200 pixels in 539.
    scale = IMAGE_PX / 200
    rows, columns = np.nonzero((picture[TITLE:] == class_color('left')).all(axis=2) & (np.arange(WIDTH) < IMAGE_PX))
    assert abs(rows.min() - 10 * scale) <= 3 and abs(columns.mean() - 50 * scale) <= 2


@pytest.mark.parametrize('in_network', [False, True])
def test_a_mask_tints_the_pixels_of_its_lanes(in_network: bool):
    mask = np.zeros((200, 400), np.uint8)
    mask[150:180, 100:140] = 2
    mask[150:180, 0:40] = 255
    sample = Det3DDataSample(metainfo={'img_from_stored': CROPPED[None]})
    name = 'gt_lane_seg' if in_network else 'pred_lane_seg'
    # In training the mask is that of the network: 100 rows less, half as large.
    sample.set_data({name: PixelData(lane_mask=torch.from_numpy(mask[100::2, ::2] if in_network else mask)[None])})
    carried = structures_of(sample)
    plain = draw_sample(frame(), CLASSES, SampleStructures(), style=STYLE)
    changed = (draw_sample(frame(), CLASSES, carried, style=STYLE) != plain).any(axis=2)[TITLE:, :IMAGE_PX]
    rows, columns = np.nonzero(changed) / np.float64(IMAGE_PX / 400)
    np.testing.assert_allclose([rows.min(), rows.max(), columns.min(), columns.max()], [150, 180, 100, 140], atol=1.5)
    assert describe(sample, CLASSES).get('pixel_labels') == (None if in_network else {'left': 0, 'right': 1200})


def test_every_lane_begins_with_a_dash_and_corners_do_not_restart_it():
    corner = np.array([[0.0, 0], [7, 0], [7, 13]])
    segments = np.concatenate([np.stack([corner[:-1], corner[1:]], axis=1), [[[0.0, 5], [4, 5]]]])
    pieces, owners = cut_into_dashes(segments, np.array([0, 0, 1]), 5.0, 3.0)
    # Dashes from 0 to 5, 8 to 13 and 16 to 20 along the first lane, which turns at 7.
    np.testing.assert_allclose(pieces, [[[0, 0], [5, 0]], [[7, 1], [7, 6]], [[7, 9], [7, 13]], [[0, 5], [4, 5]]])
    assert owners.tolist() == [0, 0, 0, 1]
    far, _ = cut_into_dashes(np.array([[[0.0, 0], [1e9, 0]]]), np.array([0]), 5.0, 3.0)
    assert far.tolist() == [[[0, 0], [1e9, 0]]]
    assert len(cut_into_dashes(np.zeros((0, 2, 2)), np.zeros(0, int), 5.0, 3.0)[0]) == 0


def test_the_visualizer_reads_the_image_and_json_says_that_lanes_are_in_pixels(tmp_path: Path):
    write_image(tmp_path / '1.png', np.full((200, 400, 3), (90, 60, 30), np.uint8))
    metas = {'img_paths': [str(tmp_path / '1.png')], 'img_from_stored': CROPPED[None], 'token': 'a/1'}
    sample = Det3DDataSample(metainfo=metas)
    sample.pred_lanes = lane(100, 0, 0.5)
    visualizer = MultiViewVisualizer('alone', style=dict(width_px=WIDTH))
    visualizer.dataset_meta = {'classes': CLASSES, 'lidar_axes': 'x forward, y left'}
    picture = visualizer.draw(None, sample)
    left, _, top, bottom = columns_of(picture, class_color('left'))
    assert abs(left - 100) <= 3 and abs(top - 120) <= 3 and bottom >= 190
    content = describe(sample, CLASSES)
    assert content['frame'] == 'image: pixels of the image on disk, x right, y down'
    assert content['lanes']['polylines'][0][0] == [100, 200] and content['lanes']['scores'] == [0.5]


def test_models_of_images_are_compared_with_their_responses_in_place():
    values = np.zeros((1, 25, 100))
    values[0, 5, 20] = 1.0
    # A map of half the size of the network's image, which is a crop: cell (20, 5) is pixel (40, 10) there.
    response = Heatmaps(values).on_network_image(CROPPED[:3, :3], (50, 200))
    named = lane(100, 0).with_classes(CLASSES)
    columns = [Column('a', [lane(300, 1, 0.75).with_classes(CLASSES)], response), Column('b', [])]
    picture = draw_image_comparison(columns, [named], frame(), 400)
    assert picture.shape == (400, 900, 3)
    legend = picture[:, 800:]
    assert all((legend == class_color(name)).all(axis=2).sum() > 10 for name in CLASSES)
    upper, lower, bare = picture[:200, :399], picture[200:, :399], picture[200:, 400:799]
    assert all((upper == class_color(name)).all(axis=2).sum() > 50 for name in CLASSES)
    # On the image on disk it is pixel (80 to 84, 120 to 124).
    rows, columns_of_it = np.nonzero(lower.sum(axis=2) > 650)
    assert (rows.min(), rows.max(), columns_of_it.min(), columns_of_it.max()) == (120, 123, 80, 83)
    # The truth is over both: cyan over a response, else in its own colour on the image.
    assert (lower[120:, 95:105] == (255, 220, 0)).all(axis=2).sum() > 50
    assert (bare == class_color('left')).all(axis=2).sum() > 50 and bare[10, 10].tolist() == [90, 60, 30]
    with pytest.raises(InputError, match='nothing to compare'):
        draw_image_comparison([], None, frame())


def test_what_is_in_metres_needs_a_lidar_frame():
    boxes = SampleStructures((Boxes([[10.0, 0, -1, 4, 2, 2, 0]], [0]),))
    with pytest.raises(InputError, match="image 'front' has no img_from_lidar, so that what is in metres"):
        draw_sample(frame(), ('car',), boxes, style=STYLE)
    with pytest.raises(InputError, match='images without a LiDAR have no 3D view'):
        draw_scene(frame(), CLASSES, SampleStructures((lane(100, 0),)), style=STYLE)
    with pytest.raises(InputError, match=r"img_from_stored of 'front': expected finite \(3, 3\), got \(2, 3\)"):
        SensorFrame(frame().images, img_from_stored={'front': np.eye(3)[:2]})
    with pytest.raises(InputError, match=r'lane_mask: expected \(H, W\) or \(1, H, W\), got \(2, 4, 4\)'):
        PixelLabels.of_lane_mask(np.zeros((2, 4, 4)))
