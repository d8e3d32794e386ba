"""Two views of a sample: same random numbers, same lidar frame, own images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform

from perception3d.checks import InputError
from perception3d.datasets.transforms.paired import KeepFrames, PairedViews
from perception3d.registry import TRANSFORMS


@TRANSFORMS.register_module(force=True)
class DrawAndPack(BaseTransform):
    """Multiplies by a draw and packs as the packing of the package does."""

    def __init__(self, draws=1, factor=1.0, turned=0.0, drop=False):
        self.draws, self.factor, self.turned, self.drop = draws, factor, turned, drop

    def transform(self, results):
        from mmdet3d.structures import Det3DDataSample

        results['img'] *= self.factor
        drawn = [np.random.uniform() + float(torch.rand(())) for _ in range(self.draws)]
        sample = Det3DDataSample(metainfo=dict(aug_from_lidar=np.eye(4) * (1 + self.turned)))
        return None if self.drop else {'inputs': results['img'], 'data_samples': sample, 'drawn': drawn}


def results():
    return {'img': np.ones(3)}


def test_both_views_draw_the_same_and_do_not_share_their_images():
    step = PairedViews([dict(type=DrawAndPack)], [dict(type=DrawAndPack, factor=2.0)])
    np.random.seed(0)
    torch.manual_seed(0)
    first = step(results())
    assert first['drawn'] == first['teacher']['drawn']
    assert first['inputs'].tolist() == [1, 1, 1] and first['teacher']['inputs'].tolist() == [2, 2, 2]
    second = step(results())
    assert second['drawn'] != first['drawn'] and second['drawn'] == second['teacher']['drawn']


def test_another_lidar_frame_is_refused_unless_asked_for():
    pair = [dict(type=DrawAndPack)], [dict(type=DrawAndPack, turned=0.1)]
    with pytest.raises(InputError, match='different lidar frames'):
        PairedViews(*pair)(results())
    assert PairedViews(*pair, same_frame=False)(results())['teacher']


def test_a_view_that_drops_the_sample_drops_the_pair():
    assert PairedViews([dict(type=DrawAndPack)], [dict(type=DrawAndPack, drop=True)])(results()) is None


def test_keep_frames_leaves_the_newest():
    sample = {
        'num_frames': 3,
        'img': list(range(6)),
        'img_paths': list('abcdef'),
        'stored_from_cam': np.arange(6),
        'other': 7,
    }
    kept = KeepFrames(2)(dict(sample))
    assert kept['img'] == [0, 1, 2, 3] and kept['img_paths'] == list('abcd') and kept['num_frames'] == 2
    assert kept['stored_from_cam'].tolist() == [0, 1, 2, 3] and kept['other'] == 7
    with pytest.raises(InputError, match='has 3'):
        KeepFrames(4)(dict(sample))


def test_images_of_two_sizes_show_the_same_when_their_scales_draw_alike():
    from perception3d.datasets.transforms.camera_augment import ImageAugment

    @TRANSFORMS.register_module(force=True)
    class PackPosts(BaseTransform):
        def transform(self, results):
            from mmdet3d.structures import Det3DDataSample

            return {'inputs': results['img_from_stored'], 'data_samples': Det3DDataSample()}

    small = dict(type=ImageAugment, final_hw=(64, 176))
    large = dict(type=ImageAugment, final_hw=(80, 220), resize=(-0.06 * 1.25, 0.11 * 1.25))
    step = PairedViews([small, dict(type=PackPosts)], [large, dict(type=PackPosts)])
    np.random.seed(0)
    for _ in range(20):
        eye = np.tile(np.eye(4), (2, 1, 1))
        image = np.zeros((225, 400, 3), np.uint8)
        sample = {
            'img': [image, image],
            'stored_hw': [(225, 400)] * 2,
            'img_from_stored': eye.copy(),
            'stored_from_cam': eye.copy(),
        }
        views = step({**sample, 'cam_from_lidar': eye.copy()})
        sizes = np.array([176, 64, 1]), np.array([220, 80, 1])
        for posts in zip(views['inputs'], views['teacher']['inputs'], strict=True):
            # The same raw pixel under the middle and a corner of both views, to what whole pixels allow.
            for place in ([0.5, 0.5, 1], [0.9, 0.1, 1]):
                raw = [np.linalg.solve(post[:3, :3], place * size)[:2] for post, size in zip(posts, sizes)]
                assert np.abs(raw[0] - raw[1]).max() < 4
