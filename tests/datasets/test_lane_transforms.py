"""Slots, masks and augmentation of lanes: image, mask, slots, matrix and steering angle stay together."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from lane_trees import HW, four_lanes, straight_lane
from PIL import Image

from perception3d.checks import InputError
from perception3d.datasets.lane_files import image_hw, images_of
from perception3d.datasets.lane_masks import assign_slots, draw_lane_mask, existing_slots, is_seen
from perception3d.datasets.transforms.lane_augment import AugmentLaneImage
from perception3d.datasets.transforms.lane_loading import CropResizeLaneImage, LoadLaneImage
from perception3d.files import read_image

OFF = dict(scale_x=(1, 1), scale_y=(1, 1), rotate_deg=0.0)


def test_slots_go_from_left_to_right_around_the_camera():
    lanes = four_lanes()
    assert assign_slots(lanes, 4, HW).tolist() == [3, 2, 1, 0]
    # TuSimple's list6 has 0 1 1 1 1 0 for these.
    assert assign_slots(lanes, 6, HW).tolist() == [4, 3, 2, 1]
    assert assign_slots(lanes[:1], 4, HW).tolist() == [2] and assign_slots(lanes[2:3], 4, HW).tolist() == [1]
    # A fifth lane has no slot; a lane of one point, or of one point twice, has none and takes none.
    outer = straight_lane(2.0 * HW[1], 0.7 * HW[1])
    assert assign_slots([*lanes, outer], 4, HW).tolist() == [3, 2, 1, 0, -1]
    odd = [lanes[0][:1], np.repeat(lanes[0][:1], 3, 0), np.zeros((0, 2)), lanes[1]]
    assert assign_slots(odd, 4, HW).tolist() == [-1, -1, -1, 2]
    assert assign_slots([*lanes, lanes[0][:1]], 1, HW).tolist() == [0, 0, 0, 0, -1]
    # Known existence has the last word, if it has as many lanes.
    assert assign_slots(lanes[2:], 4, HW, [0, 0, 1, 1]).tolist() == [3, 2]
    assert assign_slots(lanes[2:], 4, HW, [0, 1, 1, 1]).tolist() == [1, 0]


def test_the_foot_of_a_curved_lane_says_its_side():
    y = np.linspace(590, 250, 35)
    bend = 900 - 1100 * ((590 - y) / 340) ** 2
    lanes = [np.column_stack([bend, y]), np.column_stack([bend - 700, y])]
    # Both end far to the left.
    assert bend[-1] < 0 and assign_slots(lanes, 4, (590, 1640)).tolist() == [2, 1]
    # An order of points upward or downward, and a level lane, give the same side.
    assert assign_slots([lane[::-1] for lane in lanes], 4, (590, 1640)).tolist() == [2, 1]
    assert assign_slots([np.array([[900.0, 300], [1000, 300]])], 4, (590, 1640)).tolist() == [2]


def test_masks_have_lanes_of_the_width_and_ignore_what_has_no_slot():
    upright = np.array([[50.0, 59], [50, 20]])
    other = np.array([[120.0, 59], [120, 20]])
    mask = draw_lane_mask([upright, other, upright[:1]], [2, -1, 0], HW, 16)
    assert set(np.unique(mask)) == {0, 3, 255} and 16 <= (mask[40] == 3).sum() <= 17
    assert existing_slots(mask, 4) == [0, 0, 1, 0]
    # A lane of a slot lies above one without, whatever their order.
    assert (draw_lane_mask([upright, upright], [1, -1], HW, 4) == 255).sum() == 0
    # Points outside, also far outside, are drawn as far as the image goes.
    far = draw_lane_mask([np.array([[-4e9, 30], [4e9, 30]]), np.array([[500.0, 10], [600, 20]])], [0, 1], HW, 2)
    assert (far[30] == 1).all() and existing_slots(far, 4) == [1, 0, 0, 0]


@pytest.mark.parametrize('length', [100, 1e6, 4e9])
def test_a_line_keeps_its_place_however_far_it_goes(length: float):
    # From a point of the image up to the right, and back far outside: three pixels to the side for two up.
    lane = np.array([[20.0, 55], [20 + 3 * length, 55 - 2 * length], [20 + 3 * length, 70]])
    mask = draw_lane_mask([lane], [0], HW, 1)
    y, x = np.nonzero(mask)
    assert len(set(y)) >= 20 and np.abs((x - 20) / 3 - (55 - y) / 2).max() <= 0.5


def test_a_lane_without_a_pixel_in_the_image_is_not_seen():
    height, width = HW
    assert is_seen(np.array([[5.0, 20], [-90, 20]]), HW, 1) and not is_seen(np.array([[5.0, 20]]), HW, 1)
    # Both points outside: one line crosses the image, one passes at its corner, and one lies next to it.
    assert is_seen(np.array([[-50.0, 30], [width + 50, 30]]), HW, 1)
    assert not is_seen(np.array([[-50.0, 30], [30, -50]]), HW, 1)
    outside = np.array([[width + 4.0, 0], [width + 4, height]])
    assert is_seen(outside, HW, 16) and not is_seen(outside, HW, 4)


def sample(**kwargs: Any) -> dict[str, Any]:
    """A sample whose image is bright where a lane is, from right to left slots 3 to 0."""
    lanes = four_lanes((240, 656))
    slots = np.array([3, 2, 1, 0])
    mask = draw_lane_mask(lanes, slots, (240, 656), 16)
    image = np.where(mask[..., None] > 0, 255, 0).astype(np.uint8).repeat(3, 2)
    return {
        'img': image, 'lane_mask': mask, 'lanes': lanes, 'lane_slots': slots, 'lane_exist': np.array([1, 1, 1, 1]),
        'img_from_stored': np.eye(4)[None], 'img_hw': (240, 656), 'img_paths': ['a.jpg'], 'steering_rad': 0.25,
        **kwargs,
    }  # fmt: skip


def moved_lanes(results: dict[str, Any]) -> list[np.ndarray]:
    matrix = results['img_from_stored'][0]
    # Annotated pixels are drawn around their centres.
    points = [np.column_stack([lane + 0.5, np.ones((len(lane), 2))]) @ matrix.T for lane in results['lanes']]
    return [moved[:, :2] / moved[:, 2:3] for moved in points]


def require_lanes_on_mask(results: dict[str, Any]) -> None:
    """The matrix takes stored lanes to where the mask and the image have them."""
    height, width = results['img_hw']
    seen = 0
    for lane, slot in zip(moved_lanes(results), results['lane_slots']):
        for x, y in np.floor(lane).astype(int).tolist():
            if 2 <= x < width - 2 and 2 <= y < height - 2:
                seen += 1
                assert results['lane_mask'][y, x] == slot + 1 and results['img'][y, x].min() > 140
    assert seen > 6


def test_crop_and_resize_take_lanes_mask_and_matrix_along():
    results = CropResizeLaneImage(80, (100, 400)).transform(sample())
    assert results['img'].shape == (100, 400, 3) and results['lane_mask'].shape == results['img_hw'] == (100, 400)
    require_lanes_on_mask(results)
    assert set(np.unique(results['lane_mask'])) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize('seed', range(6))
def test_augmentation_moves_all_together(seed: int):
    np.random.seed(seed)
    step = AugmentLaneImage((0.9, 1.1), (0.8, 1.2), rotate_deg=3, flip_prob=seed % 2)
    results = step.transform(CropResizeLaneImage(40, (180, 500)).transform(sample()))
    require_lanes_on_mask(results)
    assert results['steering_rad'] == (-0.25 if seed % 2 else 0.25)
    assert results['lane_slots'].tolist() == ([0, 1, 2, 3] if seed % 2 else [3, 2, 1, 0])
    # Beyond the image nothing is known; lanes are not.
    pads = (results['img'] == (92, 93, 93)).all(-1)
    assert (results['lane_mask'][pads] == 255).all()


def test_a_mirrored_image_has_mirrored_slots():
    before = sample(lane_exist=np.array([1, 1, 1, 0]), lane_slots=np.array([-1, 2, 1, 0]))
    after = AugmentLaneImage(flip_prob=1, **OFF).transform({**before})
    assert after['lane_exist'].tolist() == [0, 1, 1, 1] and after['lane_slots'].tolist() == [-1, 1, 2, 3]
    assert (after['img'] == before['img'][:, ::-1]).all()
    values = before['lane_mask'][:, ::-1]
    assert (after['lane_mask'] == np.where(values > 0, 5 - values, 0)).all()
    # Twice is as never.
    again = AugmentLaneImage(flip_prob=1, **OFF).transform({**after})
    assert (again['lane_mask'] == before['lane_mask']).all() and again['steering_rad'] == 0.25
    np.testing.assert_allclose(again['img_from_stored'], np.eye(4)[None], atol=1e-12)


def test_a_smaller_image_lies_at_the_bottom():
    results = AugmentLaneImage((1, 1), (0.5, 0.5), rotate_deg=0, pad_rgb=(1, 2, 3), pad_mask=0).transform(sample())
    assert (results['img'][:119] == (1, 2, 3)).all() and not results['lane_mask'][:119].any()
    assert (results['lane_mask'][-5:] > 0).any()


def test_colours_change_without_lanes():
    np.random.seed(1)
    image = np.full((240, 656, 3), (200, 100, 60), np.uint8)
    step = AugmentLaneImage(brightness=40, contrast=0.4, saturation=0.5, **OFF)
    changed = [step.transform(sample(img=image)) for _ in range(4)]
    assert len({tuple(each['img'][0, 0]) for each in changed}) == 4
    assert all((each['lane_mask'] == sample()['lane_mask']).all() for each in changed)
    # No colour is left: all channels are the grey of the weights of luma.
    np.random.seed(0)
    grey = AugmentLaneImage(saturation=1e-9, **OFF).transform(sample(img=image))['img']
    assert np.abs(grey.astype(int) - image).max() <= 1


def test_a_mask_is_drawn_where_there_is_none(tmp_path: Any):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((*HW, 3), np.uint8) + np.uint8([10, 20, 30]))
    results = {
        'img_paths': [str(tmp_path / 'a.png')], 'stored_hw': [HW], 'lanes': four_lanes(),
        'lane_slots': np.array([3, 2, 1, 0]), 'lane_exist': np.ones(4, np.int64),
    }  # fmt: skip
    loaded = LoadLaneImage(with_mask=True, lane_width_px=4).transform({**results})
    assert loaded['img'][0, 0].tolist() == [30, 20, 10]
    assert (loaded['lane_mask'] == draw_lane_mask(four_lanes(), [3, 2, 1, 0], HW, 4)).all()
    assert 'lane_mask' not in LoadLaneImage().transform({**results})
    with pytest.raises(InputError, match='expected 1 or more'):
        LoadLaneImage(lane_width_px=0)


def test_sizes_of_images_are_those_that_they_are_loaded_with(tmp_path: Any):
    path = tmp_path / 'a.jpg'
    image = Image.new('RGB', (20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    # A photograph that was taken upright.
    assert image_hw(path) == read_image(path).shape[:2] == (20, 10)
    image.save(tmp_path / 'b.png')
    assert image_hw(tmp_path / 'b.png') == (10, 20)
    image.save(tmp_path / 'c.png', exif=exif)
    assert image_hw(tmp_path / 'c.png') == read_image(tmp_path / 'c.png').shape[:2] == (20, 10)
    (tmp_path / 'b.png').write_bytes(b'no image')
    with pytest.raises(InputError, match='b.png does not decode as an image'):
        image_hw(tmp_path / 'b.png')


def test_a_folder_of_folders_and_a_video_that_was_cut_off_are_named(tmp_path: Any):
    (tmp_path / 'clips' / 'one').mkdir(parents=True)
    with pytest.raises(InputError, match=r'clips holds no images: expected [^;]*$'):
        next(images_of(tmp_path / 'clips'))
    Image.new('RGB', (20, 10)).save(tmp_path / 'clips' / 'one' / 'a.png')
    (tmp_path / 'clips' / 'one' / '._a.png').write_bytes(b'of macOS')
    assert [sample['token'] for sample in images_of(tmp_path / 'clips' / 'one')] == ['a']
    with pytest.raises(InputError, match='clips holds no images: .*; .*clips/one does: give the folders'):
        next(images_of(tmp_path / 'clips'))
    path = tmp_path / 'drive.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 8, (64, 48))
    for _ in range(12):
        writer.write(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    assert len(list(images_of(path))) == 12
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match=r'drive.avi: \d frames decode, of 12 by its header'):
        assert 0 < len(list(images_of(path))) < 12
