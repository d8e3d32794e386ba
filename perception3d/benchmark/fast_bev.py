"""What Fast-BEV gains by a lookup table and by keeping features, measured against the released way."""

from __future__ import annotations

import copy
import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from torch import Tensor

from perception3d.benchmark.masked_writes import lift_by_masked_writes
from perception3d.benchmark.timing import PartTimer, added_mib, median_ms, peak_memory
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.engine.cpu import limit_blas_threads
from perception3d.geometry.devices import fast_dtype
from perception3d.models.fast_bev.detector import FastBEV
from perception3d.models.fast_bev.free_anchor_head import FreeAnchorBEVHead
from perception3d.models.fast_bev.streaming import HISTORY_S, FastBEVStream, StreamFrame
from perception3d.models.fast_bev.view_transform import FeatureRows, LookupViewTransform
from perception3d.registry import MODELS
from perception3d.simulation.rig import NUSCENES_RIG

# Frames that fill the history of a stream before it is measured.
_WARM_UP = 4
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def drive(image_hw: tuple[int, int], count: int, step_s: float = 0.5) -> list[StreamFrame]:
    """Frames of noise from six cameras about where nuScenes has them, on a vehicle at 8 m/s in a slow turn."""
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
    """(1, F, N, 4, 4) from the lidar frame of frames[0], the current one, to the pixels of all frames."""
    return np.stack([frame.img_from_global() for frame in frames])[None] @ frames[0].global_from_lidar()


def benchmark_view(config: Config, dtype: str, device: torch.device, runs: int) -> dict[str, Any]:
    """Times the lift of one sample: the table, the gather, both, the released way, and a plain copy of the output.

    Memory is what each way needs at most beside its inputs, its output included.
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
        transform._table_keys = {}
        return transform._tables(maps.device, rows, matrices, image_hw, image_hw)

    def both() -> Tensor:
        transform._table_keys = {}
        return transform(rows, matrices, image_hw)

    def anew() -> Tensor:
        return LookupViewTransform(config.model.grids[0]).to(device).eval()(rows, matrices, image_hw)

    def released() -> Tensor:
        return lift_by_masked_writes(nested, matrices, transform.grid, image_hw)

    with torch.no_grad():
        flat = table().view(-1)
        lifted = both()
        source, target = lifted.clone(memory_format=torch.preserve_format), torch.empty_like(lifted)
        exact = float((lifted != released()).float().mean())
        times = {
            'table ms': median_ms(table, device, runs),
            'gather ms': median_ms(lambda: transform._gather(rows[0].rows, flat), device, runs),
            'both ms': median_ms(both, device, runs),
            'released ms': median_ms(released, device, max(3, runs // 2)),
            'plain copy ms': median_ms(lambda: target.copy_(source), device, runs),
        }
        memory = {'memory MiB': added_mib(anew, device), 'released MiB': added_mib(released, device)}
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
    """Gives an untrained model scores and boxes that differ, so that decoding and suppression have work to do."""
    generator = torch.Generator().manual_seed(1)
    head = model.bbox_head
    if not isinstance(head, FreeAnchorBEVHead):
        raise InputError(f'streams are measured with the head of the paper, not {type(head).__name__}: take its config')
    for conv in (head.conv_cls, head.conv_reg, head.conv_dir_cls):
        conv.weight.data.copy_(torch.randn(conv.weight.shape, generator=generator) * 0.03)
    head.conv_cls.bias.data.fill_(-4.0)
    return model.eval()


class ReleasedWay:
    """The same network as it was released: all frames computed each time, masked writes, no folding, NCHW memory."""

    def __init__(self, model: FastBEV, dtype: torch.dtype, device: torch.device) -> None:
        self.model = copy.deepcopy(model).eval().to(device)
        for part in (self.model.backbone, self.model.neck, self.model.neck_fuse, self.model.neck_3d):
            part.to(dtype, memory_format=torch.contiguous_format)
        if self.model.style == 'v2':
            raise InputError('the released way of style v2 is not written: benchmark another config')
        self.stream = FastBEVStream(model, fuse=False, device=device)
        self.dtype = dtype
        self.last_bev: Tensor | None = None

    def bev(self, frames: list[StreamFrame]) -> Tensor:
        """The BEV features (1, C, X, Y) of frames[0] with frames[1:] as history."""
        images = torch.cat([self.stream.prepare_images(frame.images) for frame in frames])
        maps = self.network_2d(images.to(self.dtype).contiguous())
        volumes = [
            self.lift(maps[i if i < len(maps) else 0], frames, i) for i in range(len(self.model.view_transforms))
        ]
        return self.model.neck_3d(volumes).float()

    def network_2d(self, images: Tensor) -> list[Tensor]:
        """The maps to lift, NCHW."""
        return self.model.neck_fuse(self.model.neck(self.model.backbone(images)))

    def lift(self, maps: Tensor, frames: list[StreamFrame], scale: int) -> Tensor:
        """The masked writes into one grid."""
        matrices = projections(frames)
        nested = maps.view(*matrices.shape[:3], *maps.shape[1:])
        image_hw = tuple(frames[0].images.shape[-2:])
        return lift_by_masked_writes(nested, matrices, self.model.view_transforms[scale].grid, image_hw)

    @torch.no_grad()
    def detect(self, frames: list[StreamFrame]) -> Any:
        """The boxes of frames[0]."""
        sample = Det3DDataSample()
        sample.set_metainfo({'box_type_3d': LiDARInstance3DBoxes})
        self.last_bev = self.bev(frames)
        return self.model.bbox_head.predict_passes([self.last_bev], [sample])


def benchmark_released(model: FastBEV, frames: list[StreamFrame], dtype: str, device: torch.device, runs: int) -> dict:
    """Times and peak memory of the released way on frames[0] with its history; also its BEV features as `bev`."""
    released = ReleasedWay(model, DTYPES[dtype], device)
    timer = PartTimer(device)
    timer.wrap(released, 'network_2d', '2D network')
    timer.wrap(released, 'lift', 'view transformation')
    _wrap_shared_parts(timer, released.model)
    gc.collect()
    with peak_memory(device) as memory:
        released.detect(frames)
        timer.reset()
        total = median_ms(lambda: released.detect(frames), device, runs, warm_up=0)
    parts = _parts(timer)
    return {'way': 'released', 'dtype': dtype, 'total ms': total, 'parts': parts, **memory, 'bev': released.last_bev}


def benchmark_stream(
    model: FastBEV, frames: list[StreamFrame], num_frames: int, dtype: str, device: torch.device
) -> dict:
    """Times and peak memory of a stream of `num_frames` - 1 frames of history; `bev` are the last frame's features.

    The first frames fill the history and are not measured.
    """
    stream = FastBEVStream(model, HISTORY_S[: num_frames - 1], dtype=DTYPES[dtype], device=device)
    timer = PartTimer(device)
    timer.wrap(stream, 'prepare_images', 'normalisation')
    timer.wrap(stream.model, 'extract_images', '2D network')
    for transform in stream.model.view_transforms:
        timer.wrap(transform, '_tables', 'lookup table')
        timer.wrap(transform, '_gather', 'gather')
    _wrap_shared_parts(timer, stream.model)
    kept = []
    stream.model.neck_3d.register_forward_hook(lambda module, args, output: kept.append(output))
    gc.collect()
    for frame in frames[:_WARM_UP]:
        stream.step(frame)
    timer.reset()
    times = []
    with peak_memory(device) as memory:
        for frame in frames[_WARM_UP:]:
            times.append(median_ms(lambda frame=frame: stream.step(frame), device, runs=1, warm_up=0))
    total = float(np.median(times))
    return {
        'way': 'stream',
        'dtype': dtype,
        'products in': _name(stream.compute_dtype),
        'total ms': total,
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
    # Measured from outside, so it holds the head's convolutions.
    parts['decoding and suppression'] -= parts['head']
    return parts


@torch.no_grad()
def box_difference(model: FastBEV, expected: Tensor, got: Tensor) -> dict[str, float]:
    """Largest differences of boxes (any of the nine codes) and of scores, over the anchors that are decoded.

    Both BEV maps (1, C, X, Y) are decoded at the anchors that score best on `expected`, so that ties between equal
    scores cannot exchange boxes.
    """
    head = copy.deepcopy(model.bbox_head).to(expected.device)
    cls, reg, direction = head(expected)
    other_cls, other_reg, other_direction = head(got)
    boxes, _ = head.decode_outputs((cls, reg, direction))
    other, _ = head.decode_outputs((cls, other_reg, direction))
    turned = (direction.unflatten(1, (-1, 2)).argmax(2) != other_direction.unflatten(1, (-1, 2)).argmax(2)).float()
    return {
        'box difference': float((boxes - other).abs().max()),
        'score difference': float((cls.sigmoid() - other_cls.sigmoid()).abs().max()),
        'headings turned': float(turned.mean()),
    }


def compare_stream(
    config: Config, dtypes: Sequence[str], device: torch.device, runs: int, checkpoint: str | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measures the released way and the stream in every dtype, each against the released way in float32.

    Returns a row for each of them (times, memory, differences of boxes), and a row for each of their parts. Weights are
    random without a `checkpoint`. The released way in a half type is left out where the device has no instructions
    for it: one frame would take minutes.
    """
    limit_blas_threads()
    torch.manual_seed(0)
    model = prepare_model(MODELS.build(config.model))
    if checkpoint:
        load_weights(model, checkpoint)
    frames = drive(tuple(config.image_hw), _WARM_UP + runs)
    history = [frames[-1 - i] for i in range(config.num_frames)]
    base = benchmark_released(model, history, 'fp32', device, max(3, runs // 2))
    results = [base]
    for dtype in dtypes:
        if dtype != 'fp32' and fast_dtype(DTYPES[dtype], device) == DTYPES[dtype]:
            results.append(benchmark_released(model, history, dtype, device, max(3, runs // 2)))
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
