"""Latency of a crowd detector on one cloud: the whole, its parts, and both prepared for inference."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor

from perception3d.benchmark import Settings, Tables
from perception3d.benchmark.lidar_det import draw_varied_weights
from perception3d.benchmark.timing import PartTimer, median_ms
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.distill.nested import tensors_of
from perception3d.engine.cpu import limit_blas_threads
from perception3d.models.inference.acceleration import accelerate
from perception3d.models.lidar_det.expected_data import named_head
from perception3d.registry import MODELS

POINTS, PEOPLE = 16_000, 25
# A LiDAR of 128 beams at +-45 degrees, 1024 columns a revolution, 1.7 m above the ground.
_BEAMS, _COLUMNS, _HEIGHT_M = 128, 1024, 1.7


def crowd_cloud(span: list[float], columns: int, seed: int = 0) -> Tensor:
    """Returns a cloud (16000, columns) of the ground and of 25 people within `span`, as one revolution of a LiDAR sees.

    Rays of 128 beams at +-45 degrees and 1024 columns meet a plane 1.7 m below, or cylinders of 0.6 m width and 1.75 m
    height; those in the span are drawn without replacement, or with it where they are fewer. No data set is needed.

    Raises:
        InputError: no ray ends in the span.
    """
    rng = np.random.default_rng(seed)
    azimuth = np.linspace(-np.pi, np.pi, _COLUMNS, endpoint=False)
    elevation = np.deg2rad(np.linspace(-45, 45, _BEAMS))
    azimuth, elevation = (part.ravel() for part in np.meshgrid(azimuth, elevation))
    flat = np.cos(elevation)
    rays = np.column_stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    down = np.minimum(rays[:, 2], -1e-3)
    distance = np.where(rays[:, 2] < -0.02, -_HEIGHT_M / down, np.inf)
    low, high = np.array(span[:2]), np.array(span[3:5])
    for place in rng.uniform(low, high, (PEOPLE, 2)):
        square, along = (rays[:, :2] ** 2).sum(1), rays[:, :2] @ place
        root = along**2 - square * (place @ place - 0.3**2)
        hit = np.where(root > 0, (along - np.sqrt(root.clip(0))) / square, np.inf)
        height = np.where(np.isfinite(hit), hit, 0) * rays[:, 2]
        distance = np.where((hit > 0) & (height > -_HEIGHT_M) & (height < 0.05), np.minimum(distance, hit), distance)
    met = np.isfinite(distance)
    points = rays[met] * distance[met, None]
    points = points[((points >= span[:3]) & (points < span[3:])).all(1)]
    if not len(points):
        raise InputError(f'no ray of the cloud of --part crowd ends within {span}: is the ground at z = -1.7 m in it?')
    chosen = points[rng.choice(len(points), POINTS, replace=len(points) < POINTS)]
    cloud = np.column_stack([chosen, rng.random((POINTS, columns - 3))])
    return torch.from_numpy(cloud.astype(np.float32))


def benchmark_crowd(config: Config, settings: Settings) -> list[dict[str, Any]]:
    """Times `predict` of one cloud of 16,000 points, boxes included, without loading, plain and by `--fast`.

    A row has the whole, then the parts of the model (`data_preprocessor`: points to voxels), and what is left, which is
    decoding. `difference` is that of the head's first map from the plain model, as a share of its largest value.
    Without a checkpoint weights are random. The processor is in the line of the machine.

    Raises:
        InputError: the config has no voxels, or the checkpoint is of another model.
    """
    limit_blas_threads()
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    torch.manual_seed(0)
    layer = config.model.data_preprocessor.get('voxel_layer')
    if layer is None:
        raise InputError(
            f'{config.filename} has no voxel_layer in its data_preprocessor: --part crowd times voxels too'
        )
    plain: Any = MODELS.build(config.model).to(settings.device).eval()
    if settings.checkpoint is None:
        draw_varied_weights(plain)
    else:
        load_weights(plain, settings.checkpoint)
    encoder = next(part for name, part in config.model.items() if name.endswith('voxel_encoder'))
    columns = encoder.get('in_channels', encoder.get('num_features', 4))
    cloud = crowd_cloud([float(edge) for edge in layer.point_cloud_range], columns)
    fast = accelerate(copy.deepcopy(plain))
    rows, first = [], None
    for name, model in (('plain', plain), ('--fast', fast)):
        row, heat = _timed(model, cloud, settings.runs)
        first = heat if first is None else first
        gap = float((heat - first).abs().max() / first.abs().max())
        rows.append({'model': name, **row, 'difference': f'{gap:.1e}'})
    return rows


def _timed(model: Any, cloud: Tensor, runs: int) -> tuple[dict[str, Any], Tensor]:
    """Returns the row of a model, and the first map of its head."""
    batch = dict(
        inputs=dict(points=[cloud]), data_samples=[Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))]
    )
    heat: list[Tensor] = []
    _, head = named_head(model)
    hook = head.register_forward_hook(lambda module, inputs, output: heat.append(next(tensors_of(output)).clone()))

    def predict() -> None:
        with torch.no_grad():
            data = model.data_preprocessor(copy.copy(batch), False)
            model(data['inputs'], data['data_samples'], mode='predict')

    predict()
    hook.remove()
    predict()
    timer = PartTimer()
    for name, part in model.named_children():
        timer.wrap(part, 'forward', name)
    latency = median_ms(predict, runs, warm_up=0)
    parts = {f'{part} ms': time for part, time in timer.medians_ms().items()}
    decoding = latency - sum(parts.values())
    shape = 'x'.join(str(size) for size in heat[0].shape[2:])
    return {'points': len(cloud), 'map': shape, 'latency ms': latency, **parts, 'decoding ms': decoding}, heat[0]


def _measure(config: Config, settings: Settings) -> Tables:
    return {'One cloud, boxes included': benchmark_crowd(config, settings)}


BENCHMARKS = {'crowd': _measure}
