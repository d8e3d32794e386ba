"""Assignment of ground-truth boxes: the bag of the best anchors of a box, and the predictions that explain it.

Both are chosen by IoU of axis-aligned ("nearest") bird's-eye rectangles, as in the released Fast-BEV head. All anchors
are considered, yet only few are touched: bags look at a window of cells that provably holds the bag, and on the CPU
explained predictions are computed by a compiled loop over predictions and boxes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from perception3d.geometry.boxes import aligned_iou, nearest_bev, to_bev
from perception3d.models.fast_bev.anchors import LARGEST_OUTPUT, MAX_LOG_RATIO, AnchorGrid
from perception3d.models.heads.targets import Targets

# Rows of ground truth handled at once: bounds the memory of the two searches.
_ROWS_BAG = 256
_ROWS_DENSE = 16
# Two IoUs closer than this count as equal: the anchor with the nearer centre goes first.
_TIE = 1e-5


class Bags(NamedTuple):
    """The K anchors of each box, (N, K) long each: index in the cell and cell coordinates."""

    anchor: Tensor
    x: Tensor
    y: Tensor


@torch.no_grad()
def select_bags(targets: Targets, grid: AnchorGrid, shape: tuple[int, int], size: int) -> Bags:
    """The `size` anchors of largest IoU with each box; equal IoU (also 0) goes to the nearer centre.

    Within one anchor shape the IoU falls with the distance along each axis, so the best `size` cells form a staircase
    around the box that fits in a window of size + 2 cells, moved inside the map: no cell outside can be in the bag.
    """
    span = min(shape[0], size + 2), min(shape[1], size + 2)
    parts = [_bags_of_rows(b, grid, shape, span, size) for b in targets.boxes.split(_ROWS_BAG)]
    return Bags(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _bags_of_rows(boxes: Tensor, grid: AnchorGrid, shape: tuple[int, int], span: tuple[int, int], size: int) -> Bags:
    device, cell = boxes.device, grid.cell_size_m(shape)
    starts, offsets_m = [], []
    for axis in (0, 1):
        cell_of_box = (boxes[:, axis] - grid.range_m[axis]) / cell[axis]
        start = (cell_of_box.clamp(-1e6, 1e6) - span[axis] / 2).round().long().clamp(0, shape[axis] - span[axis])
        cells = start[:, None] + torch.arange(span[axis], device=device)
        starts.append(start)
        offsets_m.append((cells + 0.5 - cell_of_box[:, None]) * cell[axis])
    shapes = grid.shapes(device)
    zeros = shapes.new_zeros(len(shapes), 2)
    at_origin = nearest_bev(torch.cat([zeros, shapes[:, [0, 1, 3]]], 1))
    moved = torch.cat([boxes.new_zeros(len(boxes), 2), boxes[:, [3, 4, 6]]], 1)
    own = nearest_bev(moved)[:, None, None, None]
    shift_x, shift_y = offsets_m[0][:, None, :, None], offsets_m[1][:, None, None, :]
    iou = _shifted_iou(at_origin[:, None, None], shift_x, shift_y, own)
    distance = shift_x**2 + shift_y**2
    key = iou - distance * (_TIE / distance.amax((1, 2, 3), keepdim=True).clamp(min=1e-6))
    best = key.flatten(1).topk(min(size, key.shape[1] * span[0] * span[1]), dim=1).indices
    rest = best % (span[0] * span[1])
    return Bags(best // (span[0] * span[1]), starts[0][:, None] + rest // span[1], starts[1][:, None] + rest % span[1])


def _shifted_iou(rect: Tensor, shift_x: Tensor, shift_y: Tensor, other: Tensor) -> Tensor:
    """IoU of `rect` (..., 4) moved by the shifts with `other` (..., 4); axes are handled apart to save memory."""
    over_x = torch.minimum(rect[..., 2] + shift_x, other[..., 2]) - torch.maximum(rect[..., 0] + shift_x, other[..., 0])
    over_y = torch.minimum(rect[..., 3] + shift_y, other[..., 3]) - torch.maximum(rect[..., 1] + shift_y, other[..., 1])
    overlap = over_x.clamp(min=0) * over_y.clamp(min=0)
    areas = [(r[..., 2] - r[..., 0]) * (r[..., 3] - r[..., 1]) for r in (rect, other)]
    return overlap / (areas[0] + areas[1] - overlap).clamp(min=1e-6)


@torch.no_grad()
def predicted_rectangles(reg: Tensor, grid: AnchorGrid) -> Tensor:
    """Nearest bird's-eye rectangles (4, B, A, X, Y) of the boxes that `reg` (B, A, 9, X, Y) predicts, metres."""
    size_x, size_y = reg.shape[-2:]
    field = grid.coordinates((size_x, size_y), reg.device)
    dx, dy, log_l, log_w, yaw_delta = (
        reg[:, :, i].float().clamp(-LARGEST_OUTPUT, LARGEST_OUTPUT).contiguous() for i in (0, 1, 3, 4, 6)
    )
    x, y = dx.mul_(field.diagonal).add_(field.x), dy.mul_(field.diagonal).add_(field.y)
    half_l = log_l.clamp_(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp_().mul_(field.length / 2)
    half_w = log_w.clamp_(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp_().mul_(field.width / 2)
    # |sin| > |cos| says "nearer to a quarter turn" without wrapping the angle.
    angle = yaw_delta.add_(field.yaw)
    crosswise = torch.cos(2 * angle) < 0
    half_x, half_y = torch.where(crosswise, half_w, half_l), torch.where(crosswise, half_l, half_w)
    return torch.stack([x - half_x, y - half_y, x + half_x, y + half_y])


@torch.no_grad()
def explained_probability(rectangles: Tensor, targets: Targets, logits: Tensor, threshold: float) -> Tensor:
    """Probability that a prediction explains an object of class c, by IoU of its decoded box; laid out like `logits`.

    For box i and prediction j it is clip((IoU_ij - t) / (max_j IoU_ij - t), 0, 1); of several boxes of a class the
    largest counts (FreeAnchor, arXiv 1909.02466, section 3.3).

    Args:
        rectangles: (4, B, A, X, Y) from `predicted_rectangles`.
        targets: ground truth of the batch.
        logits: class logits (B, A, C, X, Y); only shape, type and memory layout are used.
        threshold: IoU t at which a prediction starts to explain a box.
    """
    out = torch.zeros_like(logits)
    if len(targets.boxes) and logits.numel():
        gt_rectangles = nearest_bev(to_bev(targets.boxes))
        # An invalid box gets an empty rectangle far away: nothing overlaps it.
        gt_rectangles = torch.where(targets.valid[:, None], gt_rectangles, gt_rectangles.new_full((), 1e9))
        find = _explain_on_cpu if out.device.type == 'cpu' else _explain_dense
        find(rectangles, gt_rectangles, targets, threshold, out)
    return out


def _explain_dense(rectangles: Tensor, gt_rectangles: Tensor, targets: Targets, threshold: float, out: Tensor) -> None:
    flat = rectangles.flatten(2).permute(1, 2, 0)
    batch, per_cell, classes = out.shape[:3]
    rows = out.new_zeros(batch * classes, flat.shape[1])
    for part in torch.arange(len(gt_rectangles), device=out.device).split(_ROWS_DENSE):
        iou = aligned_iou(flat[targets.sample[part]], gt_rectangles[part, None])
        above = iou - threshold
        share = (above / above.amax(1, keepdim=True).clamp(min=1e-12)).clamp(0, 1)
        index = targets.sample[part] * classes + targets.labels[part]
        rows.scatter_reduce_(0, index[:, None].expand_as(share), share, 'amax')
    out.copy_(rows.view(batch, classes, per_cell, *out.shape[3:]).transpose(1, 2))


def _explain_on_cpu(rectangles: Tensor, gt_rectangles: Tensor, targets: Targets, threshold: float, out: Tensor) -> None:
    starts = np.concatenate([[0], np.cumsum(targets.counts)])
    truth = _Truth(gt_rectangles.numpy(), targets.labels.numpy(), starts)
    memory = out.as_strided((out.numel(),), (1,)).numpy()
    target = _Strided(memory, np.array(out.shape), np.array(out.stride()))
    _explain_kernel(rectangles.flatten(2).numpy(), truth, np.float32(threshold), target)


class _Truth(NamedTuple):
    """Ground truth of a batch: rectangles (N, 4), classes (N,), and the first box of each sample (B + 1,)."""

    boxes: np.ndarray
    labels: np.ndarray
    starts: np.ndarray


class _Strided(NamedTuple):
    """A tensor in any layout: its memory as one axis, its shape and its strides in elements."""

    memory: np.ndarray
    shape: np.ndarray
    strides: np.ndarray


@njit(cache=True, fastmath={'nnan', 'nsz'})
def _overlaps(rect: np.ndarray, box: np.ndarray, b: int, first: int, last: int, out: np.ndarray) -> np.bool_:
    """Overlap areas `out` (last - first,) of rectangles `rect` (4, B, M) with `box` (4,); whether any is positive."""
    most = np.float32(0.0)
    for i in range(last - first):
        w = min(rect[2, b, first + i], box[2]) - max(rect[0, b, first + i], box[0])
        h = min(rect[3, b, first + i], box[3]) - max(rect[1, b, first + i], box[1])
        out[i] = max(w, np.float32(0.0)) * max(h, np.float32(0.0))
    for i in range(last - first):
        most = max(most, out[i])
    return most > 0.0


@njit(cache=True)
def _meet(box: np.ndarray, other: np.ndarray) -> bool:
    """Whether two rectangles (4,) may overlap; also where a bound is NaN."""
    return not (box[0] >= other[2] or box[2] <= other[0] or box[1] >= other[3] or box[3] <= other[1])


@njit(cache=True)
def _iou(rect: np.ndarray, box: np.ndarray, b: int, i: int, overlap_area: float) -> float:
    own = (rect[2, b, i] - rect[0, b, i]) * (rect[3, b, i] - rect[1, b, i])
    return overlap_area / max(own + (box[2] - box[0]) * (box[3] - box[1]) - overlap_area, np.float32(1e-6))


@njit(cache=True)
def _explain_kernel(rect: np.ndarray, truth: _Truth, threshold: np.float32, target: _Strided) -> None:
    """Fills `target`, an array (B, A, C, X, Y), in two passes over blocks.

    Not parallel on purpose: it takes milliseconds, and a second pool of threads would fight with torch's.
    The first pass finds the best IoU of each box (N, 4), the second writes where a rectangle (4, B, A*X*Y) explains it.
    """
    boxes, labels, starts = truth.boxes, truth.labels, truth.starts
    out, shape, strides = target.memory, target.shape, target.strides
    total, block = rect.shape[2], 512
    blocks = (total + block - 1) // block
    best = np.full((shape[0] * blocks, boxes.shape[0]), threshold, np.float32)
    # Neighbours predict boxes near one another, so few ground-truth boxes meet the bounds of a block.
    bounds = np.empty((shape[0] * blocks, 4), np.float32)
    for job in range(shape[0] * blocks):
        b, first = job // blocks, (job % blocks) * block
        last = min(first + block, total)
        overlap_area = np.empty(block, np.float32)
        for k in range(4):
            edge = rect[k, b, first:last]
            bounds[job, k] = edge.min() if k < 2 else edge.max()
        for g in range(starts[b], starts[b + 1]):
            if _meet(boxes[g], bounds[job]) and _overlaps(rect, boxes[g], b, first, last, overlap_area):
                for i in range(first, last):
                    if overlap_area[i - first] > 0.0:
                        best[job, g] = max(best[job, g], _iou(rect, boxes[g], b, i, overlap_area[i - first]))
    top = np.full(boxes.shape[0], threshold, np.float32)
    for job in range(shape[0] * blocks):
        for g in range(starts[job // blocks], starts[job // blocks + 1]):
            top[g] = max(top[g], best[job, g])
    cells = shape[3] * shape[4]
    for job in range(shape[0] * blocks):
        b, first = job // blocks, (job % blocks) * block
        last = min(first + block, total)
        overlap_area = np.empty(block, np.float32)
        for g in range(starts[b], starts[b + 1]):
            if best[job, g] > threshold:
                _overlaps(rect, boxes[g], b, first, last, overlap_area)
                base = b * strides[0] + labels[g] * strides[2]
                for i in range(first, last):
                    iou = _iou(rect, boxes[g], b, i, overlap_area[i - first])
                    if iou > threshold:
                        cell = i % cells
                        at = (
                            base
                            + i // cells * strides[1]
                            + cell // shape[4] * strides[3]
                            + cell % shape[4] * strides[4]
                        )
                        out[at] = max(out[at], (iou - threshold) / (top[g] - threshold))
