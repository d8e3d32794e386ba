"""A camera that one sample of a data set lacks has a black image there, at any batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.models import FPN, ResNet
from mmengine.dataset import pseudo_collate

from perception3d.checks import InputError
from perception3d.datasets.transforms.camera_augment import ImageAugment
from perception3d.datasets.transforms.camera_loading import LoadMultiViewHistory
from perception3d.datasets.transforms.camera_packing import PackCameraInputs
from perception3d.files import read_pickle, write_pickle
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.models.bev_transformer.motion import frame_times, lidar_motion, nearest_cameras
from perception3d.models.bev_transformer.pillars import PillarGrid, view_pillars
from perception3d.models.blocks.preprocessing import CameraDataPreprocessor
from perception3d.models.fast_bev.detector import FastBEV
from perception3d.models.fast_bev.free_anchor_head import FreeAnchorBEVHead
from perception3d.models.fast_bev.necks import M2BEVNeck, PyramidFuse
from perception3d.models.fast_bev.streaming import StreamFrame
from perception3d.registry import MODELS
from perception3d.visualization.sample import read_frame

LACKING, FRAMES = 'CAM_BACK_LEFT', 2
PIPELINE = [
    dict(type=LoadMultiViewHistory),
    dict(type=ImageAugment, final_hw=(32, 64), test_mode=True),
    dict(type=PackCameraInputs),
]


@pytest.fixture(scope='module')
def datasets(nuscenes_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """Three samples of which the second lacks a camera; and that sample alone, with the cameras that it has."""
    content = read_pickle(nuscenes_tree / 'perception3d_infos_hand_train.pkl')
    infos = content['data_list'][1:4]
    for images in (infos[1]['images'], *(entry['images'] for entry in infos[1]['history'])):
        del images[LACKING]
    folder = tmp_path_factory.mktemp('infos')
    made = []
    for name, part in (('three', infos), ('one', infos[1:2])):
        write_pickle(folder / f'{name}.pkl', {**content, 'data_list': part})
        settings = dict(num_frames=FRAMES, pipeline=PIPELINE, test_mode=True)
        made.append(MultiFrameNuScenesDataset(str(nuscenes_tree), str(folder / f'{name}.pkl'), **settings))
    return tuple(made)


@pytest.fixture(scope='module')
def model() -> FastBEV:
    torch.manual_seed(0)
    built = MODELS.build(
        dict(
            type=FastBEV,
            data_preprocessor=dict(type=CameraDataPreprocessor, mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True),
            backbone=dict(type=ResNet, depth=18, base_channels=8, stem_channels=8, norm_eval=True),
            neck=dict(type=FPN, in_channels=[8, 16, 32, 64], out_channels=8, num_outs=4, norm_cfg=dict(type='BN')),
            neck_fuse=dict(type=PyramidFuse, levels=(0,), in_channels=8, out_channels=8),
            grids=[dict(range_m=(-50, -50, -4, 50, 50, 2), shape=(20, 20, 2))],
            neck_3d=dict(type=M2BEVNeck, in_channels=12, out_channels=16, num_layers=1, fuse_channels=16 * FRAMES),
            bbox_head=dict(type=FreeAnchorBEVHead, in_channels=16, score_thr=0.0, max_candidates=60),
        )
    )
    torch.nn.init.normal_(built.bbox_head.conv_cls.weight, std=0.3)
    return built.eval()


def batch_of(dataset: MultiFrameNuScenesDataset, *indices: int) -> dict:
    return pseudo_collate([dataset[index] for index in indices])


def test_every_sample_has_the_cameras_of_the_file(datasets: tuple, caplog: pytest.LogCaptureFixture):
    three, one = datasets
    whole, blind, alone = three.get_data_info(0), three.get_data_info(1), one.get_data_info(0)
    assert whole['cam_names'] == blind['cam_names'] and LACKING not in alone['cam_names']
    place = blind['cam_names'].index(LACKING)
    rows = [place, place + len(blind['cam_names'])]
    assert [blind['img_paths'][row] for row in rows] == ['', '']
    assert [blind['stored_hw'][row] for row in rows] == [whole['stored_hw'][row] for row in rows]
    others = [row for row in range(len(blind['img_paths'])) if row not in rows]
    assert [blind['img_paths'][row] for row in others] == alone['img_paths']
    np.testing.assert_array_equal(blind['cam_from_lidar'][others], alone['cam_from_lidar'])
    # No place within ten kilometres is in front of the camera.
    corners = np.array([[x, y, z, 1] for x in (-1e4, 1e4) for y in (-1e4, 1e4) for z in (-1e4, 1e4)])
    assert all((blind['cam_from_lidar'][row] @ corners.T)[2].max() < 0 for row in rows)
    assert three._rig.notes(blind['cam_names']) == [
        f'1 of 3 samples lack an image of {LACKING} (first: sample {blind["token"]}): a black image is used there'
    ]


def test_cameras_by_name(datasets: tuple, nuscenes_tree: Path):
    ann_file = datasets[0].ann_file
    chosen = MultiFrameNuScenesDataset(str(nuscenes_tree), ann_file, num_frames=1, cameras=(LACKING,), test_mode=True)
    assert [chosen.get_data_info(k)['img_paths'][0] == '' for k in range(3)] == [False, True, False]
    with pytest.raises(InputError, match="unknown camera .*'CAM_SIDE'"):
        MultiFrameNuScenesDataset(str(nuscenes_tree), ann_file, cameras=('CAM_SIDE',), test_mode=True)


def test_answers_do_not_depend_on_the_batch(datasets: tuple, model: FastBEV):
    three, one = datasets
    with torch.no_grad():
        together = model.test_step(batch_of(three, 0, 1, 2))
        singles = [model.test_step(batch_of(three, k))[0] for k in range(3)]
        alone = model.test_step(batch_of(one, 0))[0]
    assert len(alone.pred_instances_3d) > 5
    for found, expected in zip([*together, singles[1]], [*singles, alone], strict=True):
        for key in ('scores_3d', 'labels_3d'):
            torch.testing.assert_close(found.pred_instances_3d[key], expected.pred_instances_3d[key])
        boxes = (sample.pred_instances_3d.bboxes_3d.tensor for sample in (found, expected))
        torch.testing.assert_close(*boxes, atol=1e-4, rtol=1e-4)


def test_nothing_is_learned_from_the_missing_image(datasets: tuple, model: FastBEV):
    batch = model.data_preprocessor(batch_of(datasets[0], 1), False)
    batch['inputs']['imgs'].requires_grad_(True)
    model.extract_feat(batch['inputs'], batch['data_samples']).square().sum().backward()
    used = batch['inputs']['imgs'].grad[0].abs().sum((1, 2, 3)) > 0
    assert used.tolist() == [path != '' for path in batch['data_samples'][0].img_paths]


def test_bev_former_and_streams_go_by_the_cameras_that_are_there(datasets: tuple):
    three, one = datasets
    blind, alone = (batch_of(*pair)['data_samples'][0] for pair in ((three, 1), (one, 0)))
    chosen = [[sample.cam_names[k] for k in nearest_cameras(sample, FRAMES)] for sample in (blind, alone)]
    assert chosen[0] == chosen[1]
    np.testing.assert_allclose(lidar_motion([blind], FRAMES), lidar_motion([alone], FRAMES))
    grid = PillarGrid((-16.0, -12.0, 16.0, 12.0), (8, 6), (-1.0, 1.0))
    matrices = blind.img_from_lidar[: len(blind.cam_names)][None]
    views = view_pillars(grid, matrices, (32, 64), (32, 64), torch.device('cpu'))
    seen = views.valid[0].any(1)
    assert not seen[blind.cam_names.index(LACKING)] and seen.sum() > 0
    assert np.isfinite(StreamFrame.from_meta(blind.metainfo, torch.zeros(8, 3, 32, 64)).time_s).all()
    assert list(read_frame(blind.metainfo)[0].images) == alone.cam_names


def test_a_camera_that_only_the_past_lacks(datasets: tuple, nuscenes_tree: Path, tmp_path: Path):
    content = read_pickle(datasets[0].ann_file)
    whole, info = content['data_list'][0], content['data_list'][2]
    settings = dict(num_frames=FRAMES, pipeline=PIPELINE, test_mode=True)
    lazy = MultiFrameNuScenesDataset(str(nuscenes_tree), datasets[0].ann_file, lazy_init=True, **settings)
    before = lazy.pipeline(lazy.parse_data_info(info))['data_samples']
    nearest = before.cam_names[nearest_cameras(before, FRAMES)[1]]
    del info['history'][0]['images'][nearest]
    after = lazy.pipeline(lazy.parse_data_info(info))['data_samples']
    assert after.img_paths.count('') == 1
    assert after.cam_names[nearest_cameras(after, FRAMES)[1]] != nearest
    np.testing.assert_allclose(lidar_motion([after], FRAMES), lidar_motion([before], FRAMES), atol=1e-4)
    assert np.isfinite(frame_times([after], FRAMES)).all()

    write_pickle(tmp_path / 'infos.pkl', {**content, 'data_list': [whole, info]})
    read = MultiFrameNuScenesDataset(str(nuscenes_tree), str(tmp_path / 'infos.pkl'), **settings)
    assert read._rig.notes(read._rig.names) == [
        f'1 of 2 samples lack an image of {nearest} (first: sample {info["token"]}): a black image is used there'
    ]
    present = MultiFrameNuScenesDataset(str(nuscenes_tree), str(tmp_path / 'infos.pkl'), num_frames=1, test_mode=True)
    assert present._rig.notes(present._rig.names) == []

    info['history'][0]['images'].clear()
    dark = lazy.pipeline(lazy.parse_data_info(info))['data_samples']
    with pytest.raises(InputError, match='no camera has an image in the present frame and in frame 1'):
        lidar_motion([dark], FRAMES)


def test_samples_that_cannot_be_stacked_are_named(datasets: tuple, model: FastBEV):
    three, one = datasets
    token = one.get_data_info(0)['token']
    with pytest.raises(InputError, match=f'sample {token} has no {LACKING}.*8 images.*cameras=.*batch_size=1'):
        model.test_step(pseudo_collate([three[0], one[0]]))
