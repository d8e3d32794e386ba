"""The Fast-BEV head written a second time: slow, in float64, with loops, and in the released box convention.

Boxes are (x, y, z_bottom, w, l, h, yaw, vx, vy) with yaw 0 at -y and clockwise, as before mmdet3d 1.0. Nothing here
calls the package; the formulas follow section 1.7 of the camera sheet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SIZES_WLH = ((0.8660, 2.5981, 1.0), (0.5774, 1.7321, 1.0), (1.0, 1.0, 1.0), (0.4, 0.4, 1.0))
ROTATIONS = (0.0, 1.57)
DIR_OFFSET = 0.7854
CODE_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)


def to_legacy(native: Tensor) -> Tensor:
    """Boxes (N, 9) of mmdet3d >= 1.0 in the old convention."""
    out = native.clone()
    out[:, 3], out[:, 4] = native[:, 4], native[:, 3]
    out[:, 6] = -native[:, 6] - math.pi / 2
    return out


def legacy_corners_xy(box: Tensor) -> Tensor:
    """Footprint corners (4, 2) of one legacy box: w along x, l along y, then turned clockwise by yaw."""
    w, length, yaw = box[3], box[4], box[6]
    unit = torch.tensor([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]], dtype=box.dtype)
    local = unit * torch.stack([w, length])
    turned = [local[:, 0] * yaw.cos() + local[:, 1] * yaw.sin(), -local[:, 0] * yaw.sin() + local[:, 1] * yaw.cos()]
    return torch.stack(turned, 1) + box[:2]


def make_anchors(shape: tuple[int, int], range_m: tuple[float, float, float, float]) -> Tensor:
    """Anchors (Y*X*8, 9) in the released flat order ((y * X + x) * 4 + size) * 2 + rotation."""
    x0, y0, x1, y1 = range_m
    rows = []
    for iy in range(shape[1]):
        for ix in range(shape[0]):
            for size in SIZES_WLH:
                for rotation in ROTATIONS:
                    x = x0 + (ix + 0.5) * (x1 - x0) / shape[0]
                    y = y0 + (iy + 0.5) * (y1 - y0) / shape[1]
                    rows.append([x, y, -1.8, *size, rotation, 0.0, 0.0])
    return torch.tensor(rows, dtype=torch.float64)


def encode(anchor: Tensor, box: Tensor) -> Tensor:
    """Nine regression targets of one box for one anchor."""
    diagonal = math.sqrt(anchor[3] ** 2 + anchor[4] ** 2)
    dz = (box[2] + box[5] / 2 - anchor[2] - anchor[5] / 2) / anchor[5]
    code = [(box[0] - anchor[0]) / diagonal, (box[1] - anchor[1]) / diagonal, dz]
    code += [math.log(box[i] / anchor[i]) for i in (3, 4, 5)]
    return torch.tensor([*code, box[6] - anchor[6], box[7], box[8]], dtype=torch.float64)


def decode(anchors: Tensor, codes: Tensor) -> Tensor:
    """Boxes (N, 9) from anchors and codes (N, 9)."""
    out = codes.clone()
    diagonal = (anchors[:, 3] ** 2 + anchors[:, 4] ** 2).sqrt()
    out[:, 0] = codes[:, 0] * diagonal + anchors[:, 0]
    out[:, 1] = codes[:, 1] * diagonal + anchors[:, 1]
    for i in (3, 4, 5):
        out[:, i] = codes[:, i].exp() * anchors[:, i]
    out[:, 2] = codes[:, 2] * anchors[:, 5] + anchors[:, 2] + anchors[:, 5] / 2 - out[:, 5] / 2
    out[:, 6] = codes[:, 6] + anchors[:, 6]
    return out


def wrap(value: Tensor, offset: float, period: float) -> Tensor:
    return value - torch.floor(value / period + offset) * period


def nearest_rectangles(boxes: Tensor) -> Tensor:
    """(N, 4) x0, y0, x1, y1 of boxes whose yaw is rounded to a quarter turn."""
    turned = wrap(boxes[:, 6], 0.5, math.pi).abs() > math.pi / 4
    size_x = torch.where(turned, boxes[:, 4], boxes[:, 3])
    size_y = torch.where(turned, boxes[:, 3], boxes[:, 4])
    x, y = boxes[:, 0], boxes[:, 1]
    return torch.stack([x - size_x / 2, y - size_y / 2, x + size_x / 2, y + size_y / 2], 1)


def rectangle_iou(one: Tensor, many: Tensor) -> Tensor:
    w = (torch.minimum(one[2], many[:, 2]) - torch.maximum(one[0], many[:, 0])).clamp(min=0)
    h = (torch.minimum(one[3], many[:, 3]) - torch.maximum(one[1], many[:, 1])).clamp(min=0)
    union = (one[2] - one[0]) * (one[3] - one[1]) + (many[:, 2] - many[:, 0]) * (many[:, 3] - many[:, 1]) - w * h
    return w * h / union


class LegacyHead:
    """Three 1x1 convolutions in float64, losses and boxes of one class list."""

    def __init__(self, state: dict[str, Tensor], range_m: tuple[float, float, float, float], num_classes: int = 10):
        self.state = {k: v.double() for k, v in state.items()}
        self.range_m, self.num_classes = range_m, num_classes

    def outputs(self, bev: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, N, C), codes (B, N, 9), directions (B, N, 2) in the released anchor order."""
        x = bev.double().transpose(-1, -2)
        result = []
        for name, size in (('conv_cls', self.num_classes), ('conv_reg', 9), ('conv_dir_cls', 2)):
            out = F.conv2d(x, self.state[f'{name}.weight'], self.state[f'{name}.bias'])
            result.append(out.permute(0, 2, 3, 1).reshape(len(bev), -1, size))
        return tuple(result)

    def losses(self, bev: Tensor, boxes: list[Tensor], labels: list[Tensor], bags: list[Tensor]) -> tuple:
        """(positive, negative) for legacy boxes (G, 9) a sample; bags (G, 25) hold flat anchor indices."""
        anchors = make_anchors(tuple(bev.shape[2:]), self.range_m)
        positive, negative, count = 0.0, 0.0, 0
        for cls, reg, direction, gt, label, bag in zip(*self.outputs(bev), boxes, labels, bags, strict=True):
            gt = gt.double()
            explained = self._explained(decode(anchors, reg.detach()), gt, label)
            prob = cls.sigmoid() * (1 - explained)
            negative = negative + (prob**2 * -torch.log1p(-prob)).sum()
            count += len(gt)
            for box, own, members in zip(gt, label, bag, strict=True):
                probs = torch.stack(
                    [self._bag_prob(anchors[j], cls[j], reg[j], direction[j], box, own) for j in members]
                )
                weight = 1 / (1 - probs)
                positive = positive - ((weight / weight.sum()) * probs).sum().log()
        return 0.5 * positive / max(count, 1), 0.5 * negative / max(count * 25, 1)

    def _bag_prob(self, anchor: Tensor, cls: Tensor, reg: Tensor, direction: Tensor, box: Tensor, own: int) -> Tensor:
        target = encode(anchor, box)
        penalty = 0.0
        for i in range(9):
            if i == 6:
                gap = (reg[i].sin() * target[i].cos() - reg[i].cos() * target[i].sin()).abs()
            else:
                gap = (reg[i] - target[i]).abs()
            value = 0.5 * gap**2 * 9 if gap < 1 / 9 else gap - 0.5 / 9
            if not torch.isnan(target[i]):
                penalty = penalty + 0.8 * CODE_WEIGHTS[i] * value
        offset = float(wrap(box[6] - DIR_OFFSET, 0, 2 * math.pi))
        penalty = penalty - 0.8 * direction.log_softmax(0)[min(int(offset // math.pi), 1)]
        return cls[own].sigmoid() * torch.exp(-penalty)

    def _explained(self, decoded: Tensor, gt: Tensor, label: Tensor) -> Tensor:
        out = torch.zeros(len(decoded), self.num_classes, dtype=torch.float64)
        rectangles = nearest_rectangles(decoded)
        for box, own in zip(nearest_rectangles(gt), label, strict=True):
            overlap = rectangle_iou(box, rectangles)
            top = max(float(overlap.max()), 0.5 + 1e-12)
            share = ((overlap - 0.5) / (top - 0.5)).clamp(0, 1)
            out[:, own] = torch.maximum(out[:, own], share)
        return out

    def boxes(self, bev: Tensor, top: int) -> list[tuple[Tensor, Tensor]]:
        """Per sample the `top` best boxes (K, 9), legacy, with resolved direction, and their class scores (K, C)."""
        anchors = make_anchors(tuple(bev.shape[2:]), self.range_m)
        found = []
        for cls, reg, direction in zip(*self.outputs(bev), strict=True):
            best = cls.sigmoid().max(1).values.topk(top).indices
            decoded = decode(anchors[best], reg[best])
            turn = wrap(decoded[:, 6] - DIR_OFFSET, 0, math.pi) + DIR_OFFSET
            decoded[:, 6] = turn + math.pi * direction[best].argmax(1)
            found.append((decoded, cls[best].sigmoid()))
        return found
