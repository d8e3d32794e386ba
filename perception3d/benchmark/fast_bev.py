"""Speed of Fast-BEV's lookup table and stream, compared with the released implementation."""

from __future__ import annotations

import copy
import functools
import gc
import statistics
from typing import Any

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from torch import Tensor

from perception3d.benchmark import Settings, Tables
from perception3d.benchmark.masked_writes import lift_by_masked_writes
from perception3d.benchmark.timing import PartTimer, added_mib, elapsed_ms, median_ms, peak_memory
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.engine.cpu import limit_blas_threads
from perception3d.geometry.devices import fast_dtype
from perception3d.models.fast_bev.detector import FastBEV
from perception3d.models.fast_bev.streaming import HISTORY_S, FastBEVStream, StreamFrame
from perception3d.models.fast_bev.view_transform import FeatureRows, LookupViewTransform
from perception3d.registry import MODELS
from perception3d.simulation.rig import NUSCENES_RIG

# Frames that fill the history of a stream before it is measured.
_WARM_UP = 4
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def drive(image_hw: tuple[int, int], count: int, step_s: float = 0.5) -> list[StreamFrame]:
    """Returns frames of random images of six cameras, mounted as in nuScenes, of an ego vehicle in a bend at 8 m/s."""
    height, width = image_hw
    cameras = [camera.resized(width, height) for camera in NUSCENES_RIG.cameras]
    intrinsics = np.tile(np.eye(4), (len(cameras), 1, 1))
    intrinsics[:, :3, :3] = np.stack([camera.intrinsics() for camera in cameras])
    cam_from_ego = np.linalg.inv(np.stack([camera.ego_from_cam() for camera in cameras]))
    generator = torch.Generator().manual_seed(0)
    frames = []
    for i in range(count):
        pose = np.eye(4)
        yaw = 0.05 * i
        pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        pose[0, 3] = 8.0 * step_s * i
        images = torch.randint(0, 256, (len(cameras), 3, height, width), generator=generator, dtype=torch.uint8)
        poses = np.tile(pose, (len(cameras), 1, 1))
        time_s = np.full(len(cameras), step_s * i)
        ego_from_lidar = NUSCENES_RIG.lidar.ego_from_lidar()
        frames.append(StreamFrame(images, intrinsics, cam_from_ego, poses, ego_from_lidar, pose, time_s))
    return frames


def projections(frames: list[StreamFrame]) -> np.ndarray:
    """Returns (1, F, N, 4, 4), from the LiDAR frame of frames[0], the current one, to the pixels of all frames."""
    return np.stack([frame.img_from_global() for frame in frames])[None] @ frames[0].global_from_lidar()


def benchmark_view(config: Config, dtype: str, device: torch.device, runs: int) -> dict[str, Any]:
    """Times the view transformation of one sample: table, gather, both, the released way, a plain copy of the output.

    Memory is the peak of each way without its inputs, its output included.
    """
    limit_blas_threads()
    image_hw = tuple(config.image_hw)
    frames = int(config.num_frames)
    transform = LookupViewTransform(config.model.grids[0]).to(device).eval()
    matrices = projections(drive(image_hw, frames)[::-1])
    hw = (image_hw[0] // 4, image_hw[1] // 4)
    channels = config.model.neck_fuse.out_channels
    maps = torch.randn(matrices.shape[1] * matrices.shape[2], channels, *hw).to(device, DTYPES[dtype])
    nested = maps.view(*matrices.shape[:3], channels, *hw)
    rows = [FeatureRows.from_maps(maps.contiguous(memory_format=torch.channels_last), 1, frames)]

    def table() -> Tensor:
        transform.forget_tables()
        return transform.tables(rows, matrices, image_hw, image_hw)

    def both() -> Tensor:
        transform.forget_tables()
        return transform(rows, matrices, image_hw)

    def first_call() -> Tensor:
        return LookupViewTransform(config.model.grids[0]).to(device).eval()(rows, matrices, image_hw)

    def released() -> Tensor:
        return lift_by_masked_writes(nested, matrices, transform.grid, image_hw)

    with torch.no_grad():
        flat = table().view(-1)
        lifted = both()
        source, target = lifted.clone(memory_format=torch.preserve_format), torch.empty_like(lifted)
        exact = float((lifted != released()).float().mean())
        times = {
            'table ms': median_ms(table, runs),
            'gather ms': median_ms(lambda: transform.gather(rows[0].rows, flat), runs),
            'both ms': median_ms(both, runs),
            'released ms': median_ms(released, max(3, runs // 2)),
            'plain copy ms': median_ms(lambda: target.copy_(source), runs),
        }
        memory = {'memory MiB': added_mib(first_call, device), 'released MiB': added_mib(released, device)}
    return {
        'grid': 'x'.join(map(str, transform.grid.shape)),
        'frames': frames,
        'dtype': dtype,
        'output MiB': lifted.numel() * lifted.element_size() / 2**20,
        **times,
        'times faster': times['released ms'] / times['both ms'],
        'of a copy': times['both ms'] / times['plain copy ms'],
        **memory,
        'values that differ': exact,
    }


def prepare_model(model: FastBEV) -> FastBEV:
    """Sets varied weights in the head of an untrained model, so that decoding and suppression get different boxes.

    Raises:
        InputError: the head has no method for it.
    """
    if not hasattr(model.bbox_head, 'draw_varied_weights'):
        raise InputError(
            'the head of this config cannot be measured: expected one with draw_varied_weights and output_differences, '
            'such as that of configs/fast_bev/fast_bev_m0_r18_256x704_cbgs20e_nuscenes.py'
        )
    model.bbox_head.draw_varied_weights()
    return model.eval()


class ReleasedWay:
    """The network as released: all frames computed each time, masked writes, batch norms not folded, NCHW memory."""

    def __init__(self, model: FastBEV, dtype: torch.dtype, device: torch.device) -> None:
        self.model = copy.deepcopy(model).eval().to(device)
        for part in (self.model.backbone, self.model.neck, self.model.neck_fuse, self.model.neck_3d):
            part.to(dtype, memory_format=torch.contiguous_format)
        if self.model.style == 'v2':
            raise InputError('the released way is not implemented for style v2: benchmark another config')
        self.stream = FastBEVStream(model, fuse=False, device=device)
        self.dtype = dtype
        self.last_bev: Tensor | None = None

    def bev(self, frames: list[StreamFrame]) -> Tensor:
        """Returns the BEV features (1, C, X, Y) of frames[0] with frames[1:] as history."""
        images = torch.cat([self.stream.prepare_images(frame.images) for frame in frames])
        maps = self.network_2d(images.to(self.dtype).contiguous())
        volumes = [
            self.lift(maps[i if i < len(maps) else 0], frames, i) for i in range(len(self.model.view_transforms))
        ]
        return self.model.neck_3d(volumes).float()

    def network_2d(self, images: Tensor) -> list[Tensor]:
        """Returns the image feature maps, NCHW, that are lifted into the BEV grid."""
        return self.model.neck_fuse(self.model.neck(self.model.backbone(images)))

    def lift(self, maps: Tensor, frames: list[StreamFrame], scale: int) -> Tensor:
        """Lifts maps into one grid by masked writes."""
        matrices = projections(frames)
        nested = maps.view(*matrices.shape[:3], *maps.shape[1:])
        height, width = frames[0].images.shape[-2:]
        return lift_by_masked_writes(nested, matrices, self.model.view_transforms[scale].grid, (height, width))

    @torch.no_grad()
    def detect(self, frames: list[StreamFrame]) -> Any:
        """Returns the boxes of frames[0]."""
        sample = Det3DDataSample()
        sample.set_metainfo({'box_type_3d': LiDARInstance3DBoxes})
        self.last_bev = self.bev(frames)
        return self.model.bbox_head.predict_passes([self.last_bev], [sample])


def benchmark_released(model: FastBEV, frames: list[StreamFrame], dtype: str, device: torch.device, runs: int) -> dict:
    """Returns times and peak memory of the released way on frames[0] with its history, and the BEV features `bev`."""
    released = ReleasedWay(model, DTYPES[dtype], device)
    timer = PartTimer()
    timer.wrap(released, 'network_2d', '2D network')
    timer.wrap(released, 'lift', 'view transformation')
    _wrap_shared_parts(timer, released.model)
    gc.collect()
    with peak_memory(device) as memory:
        released.detect(frames)
        timer.reset()
        total = median_ms(lambda: released.detect(frames), runs, warm_up=0)
    parts = _parts(timer)
    return {'way': 'released', 'dtype': dtype, 'total ms': total, 'parts': parts, **memory, 'bev': released.last_bev}


def benchmark_stream(
    model: FastBEV, frames: list[StreamFrame], num_frames: int, dtype: str, device: torch.device
) -> dict:
    """Returns times and peak memory of a stream with `num_frames` - 1 frames of history; `bev`: the last BEV features.

    The first frames fill the history and are not measured.
    """
    stream = FastBEVStream(model, HISTORY_S[: num_frames - 1], dtype=DTYPES[dtype], device=device)
    timer = PartTimer()
    timer.wrap(stream, 'prepare_images', 'normalisation')
    timer.wrap(stream.model, 'extract_images', '2D network')
    for transform in stream.model.view_transforms:
        timer.wrap(transform, 'tables', 'lookup table')
        timer.wrap(transform, 'gather', 'gather')
    _wrap_shared_parts(timer, stream.model)
    kept = []
    stream.model.neck_3d.register_forward_hook(lambda module, args, output: kept.append(output))
    gc.collect()
    for frame in frames[:_WARM_UP]:
        stream.step(frame)
    timer.reset()
    with peak_memory(device) as memory:
        times = [elapsed_ms(functools.partial(stream.step, frame)) for frame in frames[_WARM_UP:]]
    return {
        'way': 'stream',
        'dtype': dtype,
        'products in': _name(stream.compute_dtype),
        'total ms': statistics.median(times),
        'parts': _parts(timer),
        **memory,
        'bev': kept[-1].float(),
    }


def _wrap_shared_parts(timer: PartTimer, model: FastBEV) -> None:
    timer.wrap(model.neck_3d, 'forward', 'BEV encoder')
    timer.wrap(model.bbox_head, 'forward', 'head')
    timer.wrap(model.bbox_head, 'predict_passes', 'decoding and suppression')


def _name(dtype: torch.dtype) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)


def _parts(timer: PartTimer) -> dict[str, float]:
    parts = timer.medians_ms()
    # `predict_passes` calls the head, so its time includes the head's convolutions.
    parts['decoding and suppression'] -= parts['head']
    return parts


@torch.no_grad()
def box_difference(model: FastBEV, expected: Tensor, got: Tensor) -> dict[str, float]:
    """Returns the largest differences of boxes and scores of two BEV maps (1, C, X, Y), as the head defines them."""
    head = copy.deepcopy(model.bbox_head).to(expected.device)
    return head.output_differences(head(expected), head(got))


def compare_stream(config: Config, settings: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measures the released way and the stream in every dtype, each compared with the released way in float32.

    Returns a row for each of them (times, memory, differences of boxes), and a row for each of their parts. Without a
    checkpoint the weights are random. The released way in bf16 or fp16 is left out where the device has no instructions
    for it: one frame would take minutes.
    """
    limit_blas_threads()
    torch.manual_seed(0)
    model = prepare_model(MODELS.build(config.model))
    if settings.checkpoint:
        load_weights(model, settings.checkpoint)
    device, few_runs = settings.device, max(3, settings.runs // 2)
    frames = drive(tuple(config.image_hw), _WARM_UP + settings.runs)
    history = [frames[-1 - i] for i in range(config.num_frames)]
    base = benchmark_released(model, history, 'fp32', device, few_runs)
    results = [base]
    for dtype in settings.dtypes:
        if dtype != 'fp32' and fast_dtype(DTYPES[dtype], device) == DTYPES[dtype]:
            results.append(benchmark_released(model, history, dtype, device, few_runs))
        results.append(benchmark_stream(model, frames, config.num_frames, dtype, device))
    expected = base['bev']
    totals, parts = [], []
    for result in results:
        run = {'way': result['way'], 'dtype': result['dtype']}
        totals.append(
            {
                **run,
                'products in': result.get('products in', result['dtype']),
                'ms a frame': result['total ms'],
                'times faster than released fp32': base['total ms'] / result['total ms'],
                'peak MiB': result['peak_mib'],
                **box_difference(model, expected, result['bev']),
            }
        )
        parts += [{**run, 'part': part, 'ms': ms} for part, ms in result['parts'].items()]
    return totals, parts


def _measure_view(config: Config, settings: Settings) -> Tables:
    _require_fast_bev(config)
    rows = [benchmark_view(config, dtype, settings.device, settings.runs) for dtype in settings.dtypes]
    return {'View transformation of one sample': rows}


def _measure_stream(config: Config, settings: Settings) -> Tables:
    _require_fast_bev(config)
    totals, parts = compare_stream(config, settings)
    return {'One frame, boxes included': totals, 'By part': parts}


def _require_fast_bev(config: Config) -> None:
    if 'image_hw' not in config or 'grids' not in config.model:
        raise InputError(f'{config.filename} is not a Fast-BEV config: expected image_hw, num_frames and model.grids')


BENCHMARKS = {'view': _measure_view, 'stream': _measure_stream}
