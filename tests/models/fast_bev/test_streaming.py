from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.model import BaseDataPreprocessor
from test_detector import IMAGE_HW, build
from tiny_rig import intrinsics, ring_cam_from_lidar

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.geometry import devices
from perception3d.models.blocks.preprocessing import CameraDataPreprocessor
from perception3d.models.fast_bev.streaming import FastBEVStream, StreamFrame
from perception3d.registry import DATASETS

CONFIG = Path(__file__).resolve().parents[3] / 'configs/fast_bev/fast_bev_tiny_4frame_96x352_9e_sim.py'

CAMERAS = 3


def frame_at(time_s: float) -> StreamFrame:
    """What a vehicle at 6 m/s in a slow turn sees; cameras take their images a few milliseconds apart."""
    generator = torch.Generator().manual_seed(int(time_s * 1000) + 7)
    times = time_s + np.arange(CAMERAS) * 0.004

    def pose(t: float) -> np.ndarray:
        yaw = 0.1 * t
        matrix = np.eye(4)
        matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        matrix[:3, 3] = 6 * t, 0.5 * t, 0
        return matrix

    return StreamFrame(
        images=torch.randint(0, 255, (CAMERAS, 3, *IMAGE_HW), generator=generator, dtype=torch.uint8),
        img_from_cam=intrinsics(CAMERAS, IMAGE_HW),
        cam_from_ego=ring_cam_from_lidar(CAMERAS),
        global_from_ego=np.stack([pose(t) for t in times]),
        ego_from_lidar=np.eye(4),
        global_from_ego_at_lidar=pose(time_s),
        time_s=times,
    )


def whole_computation(model, frames: list[StreamFrame]) -> torch.Tensor:
    """The BEV map of the plain model on all images at once; frames[0] is the current one."""
    images = torch.cat([frame.images for frame in frames])
    prepared = model.data_preprocessor({'inputs': {'img': [images]}, 'data_samples': None})['inputs']
    now = frames[0].global_from_ego_at_lidar @ frames[0].ego_from_lidar
    matrices = [f.img_from_cam @ f.cam_from_ego @ np.linalg.inv(f.global_from_ego) @ now for f in frames]
    sample = Det3DDataSample()
    sample.set_metainfo(
        dict(img_from_lidar=np.concatenate(matrices), num_frames=len(frames), box_type_3d=LiDARInstance3DBoxes)
    )
    with torch.no_grad():
        found = model(prepared, [sample], mode='predict')[0].pred_instances_3d
        return model.extract_feat(prepared, [sample]), found


@pytest.fixture(scope='module')
def model():
    model = build(frames=3)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 2)
    return model


def record(stream: FastBEVStream) -> list[torch.Tensor]:
    bevs = []
    stream.model.neck_3d.register_forward_hook(lambda module, args, output: bevs.append(output.float().clone()))
    return bevs


@pytest.mark.parametrize(
    'settings', [dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0], bgr_to_rgb=True), dict(rgb_to_bgr=True), {}]
)
def test_a_stream_normalises_as_the_preprocessor_of_its_model(model, settings):
    other = copy.deepcopy(model)
    other.data_preprocessor = CameraDataPreprocessor(**settings)
    images = frame_at(0.0).images
    expected = other.data_preprocessor({'inputs': {'img': [images]}, 'data_samples': None})['inputs']['imgs'][0]
    assert torch.equal(FastBEVStream(other, ()).prepare_images(images), expected)


def test_a_stream_pads_images_as_the_preprocessor_of_its_model(model):
    padded = copy.deepcopy(model)
    padded.data_preprocessor = CameraDataPreprocessor(mean=[120.0] * 3, std=[60.0] * 3, pad_size_divisor=32)
    frame = frame_at(0.0)
    # 64 x 80 is padded to 64 x 96.
    frame.images = frame.images[..., :80].contiguous()
    stream = FastBEVStream(padded, (-0.5, -1.0))
    bevs = record(stream)
    stream.step(frame)
    images = torch.cat([frame.images] * 3)
    sample = Det3DDataSample()
    matrices = np.tile(frame.img_from_global() @ frame.global_from_lidar(), (3, 1, 1))
    sample.set_metainfo(dict(img_from_lidar=matrices, num_frames=3, img_hw=(64, 80)))
    inputs = padded.data_preprocessor({'inputs': {'img': [images]}, 'data_samples': [sample]})['inputs']
    assert inputs['imgs'].shape[-2:] == (64, 96)
    with torch.no_grad():
        torch.testing.assert_close(bevs[0], padded.extract_feat(inputs, [sample]), rtol=1e-4, atol=1e-4)


def test_a_preprocessor_that_cannot_normalise_is_refused(model):
    other = copy.deepcopy(model)
    other.data_preprocessor = BaseDataPreprocessor()
    with pytest.raises(InputError, match='BaseDataPreprocessor cannot normalise images: it has no method preprocess_'):
        FastBEVStream(other, ()).prepare_images(frame_at(0.0).images)


@pytest.mark.parametrize('fuse', [True, False])
def test_a_stream_finds_what_the_whole_computation_finds(model, fuse):
    stream = FastBEVStream(model, offsets_s=(-0.5, -1.0), fuse=fuse)
    bevs = record(stream)
    # 4 Hz with jitter: the frames nearest to -0.5 and -1.0 s are the second and the fourth before.
    frames = [frame_at(t) for t in (0.0, 0.26, 0.5, 0.73, 1.01, 1.25, 1.5)]
    results = [stream.step(frame) for frame in frames]
    for i, history in ((4, (2, 0)), (6, (4, 2))):
        bev, found = whole_computation(model, [frames[i], *(frames[h] for h in history)])
        torch.testing.assert_close(bevs[i], bev, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(results[i].scores_3d, found.scores_3d, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(results[i].bboxes_3d.tensor, found.bboxes_3d.tensor, rtol=1e-4, atol=1e-4)


def test_the_oldest_frame_repeats_at_the_start(model):
    stream = FastBEVStream(model, offsets_s=(-0.5, -1.0))
    bevs = record(stream)
    first, second = frame_at(0.0), frame_at(0.5)
    stream.step(first)
    stream.step(second)
    torch.testing.assert_close(bevs[0], whole_computation(model, [first] * 3)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(bevs[1], whole_computation(model, [second, first, first])[0], rtol=1e-4, atol=1e-4)
    stream.reset()
    stream.step(second)
    torch.testing.assert_close(bevs[2], whole_computation(model, [second] * 3)[0], rtol=1e-4, atol=1e-4)


def test_a_long_stream_keeps_few_frames_and_computes_each_once(model):
    stream = FastBEVStream(model, offsets_s=(-0.5, -1.0))
    seen = []
    stream.model.backbone.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    for i in range(16):
        stream.step(frame_at(0.25 * i))
    assert seen == [CAMERAS] * 16
    assert len(stream._kept) <= 6
    assert len(stream._features[0]) <= 10


@pytest.mark.parametrize('in_hardware', [True, False])
def test_bfloat16_streams_stay_close(model, monkeypatch, in_hardware):
    monkeypatch.setattr(devices, '_processor_has_bfloat16', lambda: in_hardware)
    plain, half = FastBEVStream(model, (-0.5, -1.0)), FastBEVStream(model, (-0.5, -1.0), dtype=torch.bfloat16)
    # Without instructions for it products are float32, weights and the history bfloat16 all the same.
    weights = dict(half.model.neck.named_parameters())
    assert {value.dtype for value in weights.values()} == {torch.bfloat16 if in_hardware else torch.float32}
    assert all(torch.equal(value, value.bfloat16().to(value.dtype)) for value in weights.values())
    expected, got = record(plain), record(half)
    # Twice as many frames are kept as are asked for.
    for i in range(7):
        plain.step(frame_at(0.25 * i))
        half.step(frame_at(0.25 * i))
    assert half._features[0].dtype == torch.bfloat16
    for mine, theirs in zip(got, expected, strict=True):
        assert 0 < (mine - theirs).norm() / theirs.norm() < 0.05


def test_float16_is_computed_in_float32_on_a_cpu(model):
    assert FastBEVStream(model, (-0.5,), dtype=torch.float16).compute_dtype == torch.float32
    with pytest.raises(InputError, match='winograd needs float32'):
        FastBEVStream(model.double(), (-0.5,), dtype=torch.float64, winograd=True)


def test_the_model_that_is_streamed_stays_as_it_was(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    FastBEVStream(model, (-0.5, -1.0), dtype=torch.bfloat16).step(frame_at(0.0))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_breaks_a_stream_is_named(model):
    with pytest.raises(InputError, match='past'):
        FastBEVStream(model, offsets_s=(0.5,))
    stream = FastBEVStream(model, (-0.5, -1.0))
    stream.step(frame_at(1.0))
    with pytest.raises(InputError, match='older'):
        stream.step(frame_at(0.0))
    other = frame_at(2.0)
    other.time_s = other.time_s[:2]
    with pytest.raises(InputError, match='3 cameras, a frame has 2'):
        stream.step(other)


def test_a_frame_of_a_packed_sample_sees_the_world_by_the_matrices_of_the_sample(nuscenes_tree):
    options = {'data_root': str(nuscenes_tree), 'test_dataloader.dataset.ann_file': 'perception3d_infos_hand_val.pkl'}
    config = load_config(CONFIG, options)
    sample = DATASETS.build(config.test_dataloader['dataset'])[2]
    meta, images = sample['data_samples'].metainfo, sample['inputs']['img']
    frame = StreamFrame.from_meta(meta, images)
    count = len(meta['cam_names'])
    assert torch.equal(frame.images, images[:count]) and len(images) == 4 * count
    from_lidar = frame.img_from_global() @ frame.global_from_lidar()
    np.testing.assert_allclose(from_lidar, meta['img_from_lidar'][:count], rtol=1e-5, atol=1e-3)
    assert frame.time_s == pytest.approx(np.asarray(meta['img_timestamps_s'])[:count])
