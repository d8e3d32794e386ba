"""The detection head of BEVFormer: learned object queries on a bird's-eye map, matched one to one, no suppression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModule, bias_init_with_prob
from mmengine.structures import InstanceData
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.models.bev_transformer.box_code import CODE_SIZE, decode_boxes, encode_boxes
from perception3d.models.bev_transformer.decoder import DecoderLayer
from perception3d.models.bev_transformer.deformable import init_projection, inverse_sigmoid
from perception3d.models.bev_transformer.matching import Assignment, Truth, match
from perception3d.registry import MODELS


@MODELS.register_module()
class BEVFormerHead(BaseModule):
    """Object queries that attend to a map (B, C, X, Y) in several layers, each of which refines the boxes of the last.

    Takes any map of this package: axis 2 is x, axis 3 is y. All defaults are those of the released models.

    Args:
        range_m: (x0, y0, z0, x1, y1, z1) in which the centres of boxes lie, metres, LiDAR frame; the map covers its x
            and y.
        num_classes: number of classes.
        embed_dims: channels C of the map and of the queries.
        num_query, num_layers, num_heads, num_points, feedforward_channels, dropout: of the decoder.
        num_fcs: hidden layers of the branches for class and box.
        code_weights: weights of the ten codes in the box loss.
        loss_cls, loss_bbox: losses of mmdet; by default focal loss of weight 2 and L1 of weight 0.25.
        class_cost, box_cost: weights in the matching.
        max_boxes: boxes returned for a sample.
    """

    def __init__(
        self,
        range_m: Sequence[float] = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
        num_classes: int = 10,
        embed_dims: int = 256,
        num_query: int = 900,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        feedforward_channels: int = 512,
        dropout: float = 0.1,
        num_fcs: int = 2,
        code_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2),
        loss_cls: dict | None = None,
        loss_bbox: dict | None = None,
        class_cost: float = 2.0,
        box_cost: float = 0.25,
        max_boxes: int = 300,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(code_weights) != CODE_SIZE:
            raise InputError(
                f'code_weights needs {CODE_SIZE} numbers (x y w l z h sin cos vx vy), got {len(code_weights)}'
            )
        if len(range_m) != 6:
            raise InputError(f'range_m must be (x0, y0, z0, x1, y1, z1), got {len(range_m)} numbers')
        self.num_classes, self.embed_dims, self.max_boxes = num_classes, embed_dims, max_boxes
        self.class_cost, self.box_cost = class_cost, box_cost
        self._map_range_m = (*range_m[:2], *range_m[3:5])
        self.register_buffer('range_m', torch.tensor(range_m, dtype=torch.float32), persistent=False)
        self.register_buffer('code_weights', torch.tensor(code_weights, dtype=torch.float32), persistent=False)
        self.query_embedding = nn.Embedding(num_query, 2 * embed_dims)
        self.reference_points = nn.Linear(embed_dims, 3)
        init_projection(self.reference_points)
        self.layers = nn.ModuleList(
            DecoderLayer(embed_dims, feedforward_channels, num_heads, num_points, dropout) for _ in range(num_layers)
        )
        cls_branches = [_branch(embed_dims, num_classes, num_fcs, norm=True) for _ in range(num_layers)]
        self.cls_branches = nn.ModuleList(cls_branches)
        self.reg_branches = nn.ModuleList(
            _branch(embed_dims, CODE_SIZE, num_fcs, norm=False) for _ in range(num_layers)
        )
        for branch in cls_branches:
            last = branch[-1]
            assert isinstance(last, nn.Linear)
            nn.init.constant_(last.bias, bias_init_with_prob(0.01))
        self.loss_cls = MODELS.build(
            loss_cls or dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0)
        )
        self.loss_bbox = MODELS.build(loss_bbox or dict(type='mmdet.L1Loss', loss_weight=0.25))

    @property
    def map_range_m(self) -> tuple[float, ...]:
        """(x0, y0, x1, y1) that the map is taken to cover, metres."""
        return self._map_range_m

    def forward(self, bev: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (L, B, Q, classes) and box codes (L, B, Q, 10) of all layers, float32, of a map (B, C, X, Y).

        Centres in the codes are metres.
        """
        if bev.shape[1] != self.embed_dims:
            raise InputError(f'the map has {bev.shape[1]} channels, the head embed_dims={self.embed_dims}')
        with torch.autocast(bev.device.type, enabled=False):
            return self._decode(bev.float())

    def _decode(self, bev: Tensor) -> tuple[Tensor, Tensor]:
        shape = tuple(bev.shape[2:])
        value = bev.permute(0, 3, 2, 1).flatten(1, 2)
        position, query = self.query_embedding.weight.expand(len(bev), -1, -1).split(self.embed_dims, -1)
        reference = self.reference_points(position).sigmoid()
        logits, codes = [], []
        for layer, cls_branch, reg_branch in zip(self.layers, self.cls_branches, self.reg_branches):
            query = layer(query, position, reference[..., :2], value, shape)
            raw = reg_branch(query)
            center = (raw[..., [0, 1, 4]] + inverse_sigmoid(reference)).sigmoid()
            logits.append(cls_branch(query))
            codes.append(self._to_metres(raw, center))
            # Each layer learns its own step: no gradient through the boxes of the layer before.
            reference = center.detach()
        return torch.stack(logits), torch.stack(codes)

    def _to_metres(self, raw: Tensor, center: Tensor) -> Tensor:
        """Puts centres (..., 3), fractions of the range, into the codes."""
        x, y, z = (center * (self.range_m[3:] - self.range_m[:3]) + self.range_m[:3]).split(1, -1)
        return torch.cat([x, y, raw[..., 2:4], z, raw[..., 5:]], -1)

    def loss(self, bev: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Losses of a batch from `gt_instances_3d`: `loss_cls`, `loss_bbox`, and `d0.loss_cls`, .. of earlier layers.

        Objects are counted over all processes. An unknown (NaN) velocity takes no part; boxes with another number that
        is not finite, or with a label that is not a class, are left out.
        """
        logits, codes = self(bev)
        truth = [self.read_truth(sample.gt_instances_3d, bev.device) for sample in batch_data_samples]
        assignment = match(logits, codes, truth, self.class_cost, self.box_cost)
        objects = logits.new_tensor(float(assignment.objects))
        all_reduce(objects, 'mean')
        objects = objects.clamp(min=1)
        losses = {}
        for layer in range(len(logits)):
            name = '' if layer == len(logits) - 1 else f'd{layer}.'
            losses.update(self._layer_loss(name, logits[layer], codes[layer], assignment, layer, objects))
        return losses

    def _layer_loss(
        self, name: str, logits: Tensor, codes: Tensor, assignment: Assignment, layer: int, objects: Tensor
    ) -> dict[str, Tensor]:
        weights = assignment.known[layer] * self.code_weights
        return {
            f'{name}loss_cls': self.loss_cls(
                logits.flatten(0, 1), assignment.labels[layer].flatten(), avg_factor=objects
            ),
            f'{name}loss_bbox': self.loss_bbox(codes, assignment.codes[layer], weights, avg_factor=objects),
        }

    def read_truth(self, instances: InstanceData, device: torch.device) -> Truth:
        """Codes and labels of the objects that can be learnt from."""
        boxes = instances.bboxes_3d.tensor.to(device, torch.float32)
        labels = torch.as_tensor(instances.labels_3d).to(device).long()
        if boxes.shape[1] < 9:
            boxes = torch.cat([boxes[:, :7], boxes.new_full((len(boxes), 2), float('nan'))], 1)
        usable = boxes[:, :7].isfinite().all(1) & (labels >= 0) & (labels < self.num_classes)
        return Truth(encode_boxes(boxes[usable]), labels[usable])

    def predict(self, bev: Tensor, batch_data_samples: list) -> list[InstanceData]:
        """Boxes of each sample as InstanceData (bboxes_3d, scores_3d, labels_3d), by falling score."""
        return self.predict_passes([bev], batch_data_samples)

    @torch.no_grad()
    def predict_passes(self, bevs: Sequence[Tensor], batch_data_samples: list) -> list[InstanceData]:
        """The `max_boxes` best pairs of query and class of each sample, over one or more maps of the same LiDAR frame.

        A query may return several classes, as in the released model.
        """
        passes = [self(bev) for bev in bevs]
        logits, codes = (torch.cat([part[field][-1] for part in passes], 1) for field in range(2))
        scores = logits.nan_to_num(nan=-torch.inf).sigmoid().flatten(1)
        scores, index = scores.topk(min(self.max_boxes, scores.shape[1]), dim=1)
        own = codes.gather(1, (index // self.num_classes)[..., None].expand(-1, -1, CODE_SIZE))
        boxes, labels = decode_boxes(own.nan_to_num(nan=0.0)), index % self.num_classes
        results = []
        for i, sample in enumerate(batch_data_samples):
            prediction = InstanceData()
            prediction.bboxes_3d = sample.metainfo['box_type_3d'](boxes[i], box_dim=9)
            prediction.scores_3d, prediction.labels_3d = scores[i], labels[i]
            results.append(prediction)
        return results


def _branch(embed_dims: int, outputs: int, num_fcs: int, norm: bool) -> nn.Sequential:
    """Hidden layers with ReLU, and layer norms if `norm`, then a linear layer."""
    parts: list[nn.Module] = []
    for _ in range(num_fcs):
        parts.append(nn.Linear(embed_dims, embed_dims))
        if norm:
            parts.append(nn.LayerNorm(embed_dims))
        parts.append(nn.ReLU(inplace=True))
    return nn.Sequential(*parts, nn.Linear(embed_dims, outputs))
