"""Latency of a crowd detector on one cloud, plain and prepared for inference, by part; its targets and decoding."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from perception3d.benchmark import Settings, Tables
from perception3d.benchmark.lidar_det import draw_varied_weights
from perception3d.benchmark.timing import PartTimer, median_ms
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.distill.nested import tensors_of
from perception3d.engine.cpu import limit_blas_threads
from perception3d.models.crowd.decoding import best_peaks, suppress
from perception3d.models.crowd.losses import crowd_losses
from perception3d.models.crowd.maps import CrowdMaps, grids_of
from perception3d.models.crowd.people import People, gather_people
from perception3d.models.crowd.targets import coarse_target, density_target, gate_prior, level_targets
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
        InputError: the config has no voxels, the model needs more than a cloud, or the checkpoint is of another one.
    """
    plain, cloud = _model_and_cloud(config, settings)
    fast = accelerate(copy.deepcopy(plain))
    rows, first = [], None
    for name, model in (('plain', plain), ('--fast', fast)):
        row, heat = _timed(model, cloud, settings.runs)
        first = heat if first is None else first
        gap = float((heat - first).abs().max() / first.abs().max())
        rows.append({'model': name, **row, 'difference': f'{gap:.1e}'})
    return rows


def benchmark_head(config: Config, settings: Settings) -> Tables:
    """Times what a head of crowds does besides its network, on the maps of one cloud; nothing for other heads.

    Targets and losses have a row for 25 and one for 500 people at random places: `targets ms` draws those of all
    levels, density, coarse map and gates included; `losses ms` has these and the gradients of all maps. Of decoding,
    `peaks ms` finds the best `decoder.max_boxes` cells, `suppression ms` is for as many boxes at random places with the
    largest radius, and `boxes ms` is all of it.
    """
    plain, cloud = _model_and_cloud(config, settings)
    _, head = named_head(plain)
    if not hasattr(head, 'decoder'):
        return {}
    with torch.no_grad():
        data = plain.data_preprocessor(_batch_of(cloud), False)
        maps = plain(data['inputs'], data['data_samples'], mode='tensor')
    grids, rules, decoder = grids_of(head.range_m, maps.levels), head.rules, head.decoder
    learned = _with_gradients(maps)

    def targets(people: People) -> None:
        for k, grid in enumerate(grids):
            level_targets(people, grid, rules, k)
        gate_prior(density_target(people, grids[0], rules.density)[0], rules)
        coarse_target(people, grids[-1], rules.coarse_radius_m)

    def losses(people: People) -> None:
        found = crowd_losses(learned, people, head.range_m, rules, head.loss_weights)
        torch.stack(list(found.values())).sum().backward()

    rows = []
    for count in (PEOPLE, 500):
        people = _people_at_random(head.range_m, count, settings.device)
        parts = {'targets ms': targets, 'losses ms': losses}
        times = {name: median_ms(partial(part, people), settings.runs) for name, part in parts.items()}
        rows.append({'people': count, 'map': _shape(maps.heatmap), **times})
    some = _people_at_random(head.range_m, decoder.max_boxes, settings.device)
    radius = torch.full_like(some.xy[..., 0], max(decoder.radius_range_m))
    decoding = {
        'peaks ms': median_ms(lambda: best_peaks(maps.heatmap, decoder.max_boxes), settings.runs),
        'suppression ms': median_ms(lambda: suppress(some.xy, radius, some.known), settings.runs),
        'boxes ms': median_ms(lambda: decoder(maps, grids[0]), settings.runs),
    }
    shared = {'map': _shape(maps.heatmap), 'most boxes': decoder.max_boxes}
    return {'Targets and losses of one map': rows, 'Decoding of one map': [{**shared, **decoding}]}


def _with_gradients(maps: CrowdMaps) -> CrowdMaps:
    """Returns maps that are leaves; a level that is the joined heatmap stays that."""
    leaves: dict[int, Tensor] = {}

    def leaf(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(leaf, x))
        return None if x is None else leaves.setdefault(id(x), x.detach().requires_grad_())

    return CrowdMaps(*map(leaf, maps))


def _people_at_random(range_m: Sequence[float], count: int, device: torch.device) -> People:
    x0, y0, x1, y1 = range_m
    boxes = torch.rand(count, 9, generator=torch.Generator().manual_seed(0)) + 0.5
    boxes[:, :2] = torch.tensor([x0, y0]) + (boxes[:, :2] - 0.5) * torch.tensor([x1 - x0, y1 - y0])
    labels = torch.zeros(count, dtype=torch.long)
    people = InstanceData(bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), labels_3d=labels)
    return gather_people([people], device)


def _model_and_cloud(config: Config, settings: Settings) -> tuple[Any, Tensor]:
    """Returns the detector of a config and a cloud in its range."""
    limit_blas_threads()
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    torch.manual_seed(0)
    layer = config.model.data_preprocessor.get('voxel_layer')
    if layer is None:
        raise InputError(
            f'{config.filename} has no voxel_layer in its data_preprocessor: --part crowd times voxels too'
        )
    more = getattr(config.model.type, 'more_than_a_cloud', None)
    if more is not None:
        raise InputError(
            f'{config.model.type.__name__} needs {more}: measure it by --part model, on a sample of its data'
        )
    plain: Any = MODELS.build(config.model).to(settings.device).eval()
    if settings.checkpoint is None:
        draw_varied_weights(plain)
    else:
        load_weights(plain, settings.checkpoint)
    encoder = next(part for name, part in config.model.items() if name.endswith('voxel_encoder'))
    columns = encoder.get('in_channels', encoder.get('num_features', 4))
    cloud = crowd_cloud([float(edge) for edge in layer.point_cloud_range], columns)
    return plain, cloud


def _batch_of(cloud: Tensor) -> dict[str, Any]:
    sample = Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))
    return dict(inputs=dict(points=[cloud]), data_samples=[sample])


def _shape(x: Tensor) -> str:
    return 'x'.join(str(size) for size in x.shape[2:])


def _timed(model: Any, cloud: Tensor, runs: int) -> tuple[dict[str, Any], Tensor]:
    """Returns the row of a model, and the first map of its head."""
    batch = _batch_of(cloud)
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
    return {
        'points': len(cloud),
        'map': _shape(heat[0]),
        'latency ms': latency,
        **parts,
        'decoding ms': decoding,
    }, heat[0]


def _measure(config: Config, settings: Settings) -> Tables:
    return {'One cloud, boxes included': benchmark_crowd(config, settings), **benchmark_head(config, settings)}


BENCHMARKS = {'crowd': _measure}
