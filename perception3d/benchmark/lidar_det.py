"""LiDAR detectors compared with mmdet3d's, and their ops with mmcv's own CPU kernels, where those are compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import mmcv._ext as mmcv_ext
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from perception3d.benchmark import Settings, Tables
from perception3d.benchmark.timing import median_ms, peak_memory
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.compat.mmcv_ext import ops_are_compiled
from perception3d.distill.nested import tensors_of
from perception3d.engine.cpu import limit_blas_threads
from perception3d.engine.runner import PerceptionRunner
from perception3d.files import read_points
from perception3d.geometry.boxes import limit_period
from perception3d.geometry.iou import bev_iou
from perception3d.models.inference.acceleration import accelerate
from perception3d.models.lidar_det.expected_data import named_head
from perception3d.ops.nms import nms_rotated
from perception3d.ops.voxels import hard_voxelize
from perception3d.registry import MODELS

# Boxes are compared from this score on, and are the same object up to this distance.
_SURE = 0.1
_SAME_PLACE_M = 0.5


def benchmark_lidar(
    config: Config, device: torch.device, runs: int, checkpoint: str | None = None
) -> list[dict[str, Any]]:
    """Times `predict` on the first test sample: mmdet3d's own parts, ours, and ours prepared for inference.

    All three have the same weights. mmdet3d's goes first, since ours replace ops of mmcv for the rest of the process,
    and is timed with spconv's own loops. Where mmcv has no compiled ops mmdet3d runs on ours, and its row says
    so; the row also names a class of ours that has no counterpart in mmdet3d. Loading is not included. `difference` is
    the largest difference of the head's maps from those of mmdet3d (with our sparse convolutions, since spconv's lose
    additions on several threads), as a share of their largest value.

    Without a checkpoint the weights are random, and the best boxes of a frame are kept, whatever their score. Boxes are
    not compared then: the empty part of a map is full of equal scores, of which any may be chosen. With a checkpoint
    the thresholds are those of the config, and the rows have the result of `box_gap`.

    Raises:
        InputError: the config has no test data, or the checkpoint is of another model.
    """
    limit_blas_threads()
    if 'test_dataloader' not in config:
        raise InputError(f'{config.filename} has no test_dataloader: there is no sample to measure with')
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    settings = copy.deepcopy(config.model)
    if checkpoint is None:
        _keep_all_boxes(settings)
    torch.manual_seed(0)
    replaced = with_upstream_classes(settings)
    upstream = ', '.join(['mmdet3d' if ops_are_compiled() else 'mmdet3d on our ops', *without_counterpart(replaced)])
    models = {'mmdet3d': MODELS.build(replaced).to(device).eval()}
    if checkpoint is None:
        draw_varied_weights(models['mmdet3d'])
    else:
        load_weights(models['mmdet3d'], checkpoint)
    loader = PerceptionRunner.build_dataloader({**config.test_dataloader, 'num_workers': 0, 'batch_size': 1}, 0)
    batch = pseudo_collate([loader.dataset[0]])
    rows: list[dict[str, Any]] = []
    expected, expected_boxes = None, None
    for name in ('mmdet3d', 'ours', 'ours, --fast'):
        if name not in models:
            models[name] = MODELS.build(copy.deepcopy(settings)).to(device).eval()
            models[name].load_state_dict(models['mmdet3d'].state_dict())
        if name == 'ours, --fast':
            accelerate(models[name])
        step = _predict(models[name], batch)
        maps, boxes = _maps_and_boxes(models[name], step)
        expected, expected_boxes = (maps, boxes) if expected is None else (expected, expected_boxes)
        with peak_memory(device) as memory, _loops_of_spconv() if name == 'mmdet3d' else nullcontext():
            latency = median_ms(step, runs, warm_up=2)
        gap = float((maps - expected).abs().max() / expected.abs().max())
        parts = upstream if name == 'mmdet3d' else name
        row = {'parts': parts, 'latency ms': latency, 'peak MiB': memory['peak_mib'], 'difference': f'{gap:.1e}'}
        rows.append(row if checkpoint is None else {**row, **box_gap(expected_boxes, boxes)})
    return [{**row, 'times faster': rows[0]['latency ms'] / row['latency ms']} for row in rows]


def box_gap(expected: InstanceData, got: InstanceData) -> dict[str, str]:
    """Compares boxes with scores above 0.1: how many match, and the largest differences of those that do.

    Each expected box is matched with the nearest box of its class in `got`, up to 0.5 m away; each box matches once.
    Differences of boxes are in metres, radians (modulo 2 pi) and, of velocities, metres per second.
    """
    (boxes, scores, labels), (other, other_scores, other_labels) = (_sure_boxes(part) for part in (expected, got))
    distance = torch.cdist(boxes[:, :3].double(), other[:, :3].double())
    distance[labels[:, None] != other_labels] = torch.inf
    pairs = []
    for _ in range(min(distance.shape)):
        row, column = divmod(int(distance.argmin()), distance.shape[1])
        if distance[row, column] > _SAME_PLACE_M:
            break
        pairs.append((row, column))
        distance[row], distance[:, column] = torch.inf, torch.inf
    rows, columns = torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(1)
    gaps = other[columns] - boxes[rows]
    gaps[:, 6] = limit_period(gaps[:, 6])
    largest = [
        f'{float(gap.abs().max()):.1e}' if len(pairs) else '-' for gap in (gaps, other_scores[columns] - scores[rows])
    ]
    count = f'{len(pairs)} of {max(len(boxes), len(other))}'
    return {'boxes matched': count, 'box difference': largest[0], 'score difference': largest[1]}


def _sure_boxes(boxes: InstanceData) -> tuple[Tensor, Tensor, Tensor]:
    sure = boxes.scores_3d > _SURE
    tensors = boxes.bboxes_3d.tensor[sure], boxes.scores_3d[sure], boxes.labels_3d[sure]
    return tuple(tensor.detach().cpu() for tensor in tensors)


@contextmanager
def _loops_of_spconv() -> Iterator[None]:
    """Makes spconv use its own loops instead of ours, where it is installed."""
    try:
        from spconv.pytorch import ops
    except ImportError:
        yield
        return
    ours = ops.indice_conv, ops.get_indice_pairs
    ops.indice_conv, ops.get_indice_pairs = (function.of_device for function in ours)
    try:
        yield
    finally:
        ops.indice_conv, ops.get_indice_pairs = ours


def _predict(model: Any, batch: dict) -> Callable[[], InstanceData]:
    def predict() -> InstanceData:
        with torch.no_grad():
            data = model.data_preprocessor(copy.copy(batch), False)
            return model(data['inputs'], data['data_samples'], mode='predict')[0].pred_instances_3d

    return predict


def _maps_and_boxes(model: Any, step: Callable[[], InstanceData]) -> tuple[Tensor, InstanceData]:
    """Returns all outputs of the head in one step, as one vector, and the boxes."""
    kept: list[Any] = []
    _, head = named_head(model)
    hook = head.register_forward_hook(lambda module, inputs, output: kept.append(output))
    boxes = step()
    hook.remove()
    return torch.cat([tensor.flatten() for tensor in tensors_of(kept[0])]), boxes


def draw_varied_weights(model: nn.Module) -> None:
    """Draws weights in front of the head with which boxes depend on the input, as in a trained network.

    With the initial weights all boxes are the anchors, and no error would show; and maps of empty places are zero,
    which is less work than the background of a trained network. The head keeps its small weights: scores that are all
    1 have no order.
    """
    for name, part in model.named_modules():
        if isinstance(part, nn.Conv2d) and 'head' not in name:
            nn.init.kaiming_normal_(part.weight)
        elif isinstance(part, nn.BatchNorm2d) and 'head' not in name:
            nn.init.normal_(part.bias, std=0.1)


def _keep_all_boxes(settings: Any) -> None:
    """Sets every threshold of scores to 0, since random weights give low scores."""
    for key, value in settings.items():
        if isinstance(value, dict):
            _keep_all_boxes(value)
        elif key in ('score_thr', 'score_threshold') and value is not None:
            settings[key] = 0.0


def with_upstream_classes(settings: Any) -> Any:
    """Returns the settings of a model with the class of mmdet3d in place of each class of ours that has one."""
    replaced = copy.deepcopy(settings)
    for key, value in replaced.items():
        if isinstance(value, dict):
            replaced[key] = with_upstream_classes(value)
        elif key == 'type':
            replaced[key] = getattr(value, 'upstream_class', value)
    return replaced


def without_counterpart(settings: Any) -> list[str]:
    """Returns the classes of this package in the settings of a model, as `our NAME`."""
    found = []
    for key, value in settings.items():
        if isinstance(value, dict):
            found += without_counterpart(value)
        elif key == 'type' and isinstance(value, type) and value.__module__.startswith('perception3d.'):
            found.append(f'our {value.__name__}')
    return found


def benchmark_lidar_ops(config: Config, runs: int) -> list[dict[str, Any]]:
    """Times voxelisation of the first test scan, and rotated IoU and NMS of 1000 boxes in 70 x 80 m, on the CPU.

    Without mmcv's compiled ops ours are timed alone.

    Raises:
        InputError: the config has no voxel layer.
    """
    limit_blas_threads()
    layer = config.model.data_preprocessor.get('voxel_layer')
    if layer is None:
        raise InputError(
            f'{config.filename} has no voxel_layer in its data_preprocessor: there are no voxels to measure'
        )
    dataset: Any = PerceptionRunner.build_dataloader({**config.test_dataloader, 'num_workers': 0}, 0).dataset
    info = dataset.get_data_info(0)
    points = torch.from_numpy(read_points(info['lidar_path'], info['num_pts_feats']))
    settings = (layer.voxel_size, layer.point_cloud_range, layer.max_num_points, layer.max_voxels[1])
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        f'voxels of {len(points)} points': (
            lambda: _mmcv_voxels(points, *settings),
            lambda: hard_voxelize(points, *settings),
        )
    }
    rng = np.random.default_rng(0)
    sides = np.column_stack([rng.uniform(0, 70, 1000), rng.uniform(-40, 40, 1000), rng.uniform(0.5, 4.5, (1000, 2))])
    boxes = torch.from_numpy(np.column_stack([sides, rng.uniform(-3.14, 3.14, 1000)])).float()
    scores = torch.from_numpy(rng.random(1000)).float()
    pairs['IoU of 1000 x 1000 boxes'] = (lambda: _mmcv_iou(boxes), lambda: bev_iou(boxes, boxes))
    pairs['NMS of 1000 boxes'] = (lambda: _mmcv_nms(boxes, scores), lambda: nms_rotated(boxes, scores, 0.01))
    rows = []
    for name, (upstream, ours) in pairs.items():
        ours_ms = median_ms(ours, runs)
        if not ops_are_compiled():
            rows.append({'op': name, 'mmcv ms': 'not compiled', 'ours ms': ours_ms})
            continue
        a, b = upstream(), ours()
        a, b = (x if isinstance(x, tuple) else (x,) for x in (a, b))
        gap = max(float((x.double() - y.double()).abs().max()) for x, y in zip(a, b, strict=True))
        mmcv_ms = median_ms(upstream, runs)
        times = {'mmcv ms': mmcv_ms, 'ours ms': ours_ms, 'times faster': mmcv_ms / ours_ms}
        rows.append({'op': name, **times, 'difference': gap})
    return rows


# mmcv's kernels themselves: its functions in mmcv.ops may call ours by now.
def _mmcv_voxels(points: Tensor, size: Any, span: Any, max_points: int, max_voxels: int) -> tuple[Tensor, ...]:
    voxels = points.new_zeros((max_voxels, max_points, points.shape[1]))
    coors, counts = torch.zeros((max_voxels, 3), dtype=torch.int), torch.zeros(max_voxels, dtype=torch.int)
    number = torch.zeros((), dtype=torch.long)
    mmcv_ext.hard_voxelize_forward(
        points, torch.tensor(size, dtype=torch.float32), torch.tensor(span, dtype=torch.float32), voxels, coors, counts,
        number, max_points=max_points, max_voxels=max_voxels, NDim=3, deterministic=True,
    )  # fmt: skip
    return voxels[:number], coors[:number], counts[:number]


def _mmcv_iou(boxes: Tensor) -> Tensor:
    out = boxes.new_zeros(len(boxes) * len(boxes))
    mmcv_ext.box_iou_rotated(boxes, boxes, out, mode_flag=0, aligned=False)
    return out.view(len(boxes), -1)


def _mmcv_nms(boxes: Tensor, scores: Tensor) -> Tensor:
    order = scores.argsort(descending=True)
    return mmcv_ext.nms_rotated(boxes, scores, order, boxes[order], scores.new_zeros(len(scores), 1), 0.01, 0)


def _measure_detectors(config: Config, settings: Settings) -> Tables:
    rows = benchmark_lidar(config, settings.device, settings.runs, settings.checkpoint)
    return {'One scan, boxes included': rows}


def _measure_ops(config: Config, settings: Settings) -> Tables:
    return {'Ops on the CPU': benchmark_lidar_ops(config, settings.runs)}


BENCHMARKS = {'lidar': _measure_detectors, 'lidar-ops': _measure_ops}
