"""Depth and class PNGs of an image, moved as the image was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from perception3d.checks import InputError
from perception3d.datasets.transforms.lane_augment import AugmentLaneImage
from perception3d.datasets.transforms.lane_loading import CropResizeLaneImage
from perception3d.datasets.transforms.lane_packing import PackLaneInputs
from perception3d.datasets.transforms.lane_pixels import LoadPixelTargets

HW = (24, 40)


@pytest.fixture()
def sample(tmp_path):
    """An image whose colour is the class of each pixel, in blocks of 4 x 4, and whose depth is a metre per class."""
    classes = np.kron(np.random.default_rng(0).integers(0, 9, (6, 10)), np.ones((4, 4), int)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'c.png'), classes)
    cv2.imwrite(str(tmp_path / 'd.png'), (classes.astype(np.uint16) * 256))
    return dict(
        img=np.repeat(classes[..., None], 3, 2),
        img_hw=HW,
        img_paths=['a.jpg'],
        stored_hw=[HW],
        img_from_stored=np.eye(4)[None],
        semantic_path=str(tmp_path / 'c.png'),
        depth_path=str(tmp_path / 'd.png'),
    )


def test_pixels_move_with_the_image(sample):
    sample = CropResizeLaneImage(8, (32, 80))(sample)
    moved = LoadPixelTargets()(dict(sample))
    # At twice the size, each stored pixel is 2 x 2.
    stored = cv2.imread(sample['semantic_path'], cv2.IMREAD_UNCHANGED)[8:]
    assert np.array_equal(moved['semantic'], np.kron(stored, np.ones((2, 2), np.uint8)))
    np.testing.assert_array_equal(moved['depth_m'], moved['semantic'].astype(np.float32))
    np.random.seed(0)
    turned = AugmentLaneImage((0.8, 0.8), (0.9, 0.9), 5.0, flip_prob=1.0, pad_rgb=(255, 255, 255))(
        dict(sample, steering_rad=0.1)
    )
    assert turned['steering_rad'] == -0.1  # of an image whose lanes are not known, too
    turned = LoadPixelTargets()(turned)
    # Inside of blocks the interpolated image has the class of the pixel, outside the image both have their padding.
    image = turned['img'][..., 0].astype(int)
    assert (image == turned['semantic']).mean() > 0.6
    beyond = turned['semantic'] == 255
    assert 0.15 < beyond.mean() < 0.25 and (image[beyond] > 100).mean() > 0.9 and not turned['depth_m'][beyond].any()
    packed = PackLaneInputs()(turned)['data_samples']
    assert packed.gt_semantic.semantic.shape == packed.gt_depth.depth_m.shape == (1, 32, 80)


def test_a_sample_without_files_or_with_others_is_an_error(sample, tmp_path):
    with pytest.raises(InputError, match="unknown pixel target 'depths': did you mean 'depth'"):
        LoadPixelTargets(('depths',))
    with pytest.raises(InputError, match=r'c.png: expected a PNG of one channel, uint16 \(24, 40\), got uint8'):
        LoadPixelTargets(('depth',))(dict(sample, depth_path=sample['semantic_path']))
    with pytest.raises(InputError, match='a.jpg has no semantic_path .* only the built-in world'):
        LoadPixelTargets()({key: value for key, value in sample.items() if key != 'semantic_path'})
    (tmp_path / 'd.png').write_bytes(b'')
    with pytest.raises(InputError, match='d.png: .*got nothing that decodes'):
        LoadPixelTargets()(sample)
