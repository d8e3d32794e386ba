"""DHA-R: density-aware hierarchical heatmaps for people in crowds, and with all of it switched off CenterPoint's head.

STCrowd's paper (Cong et al. 2022, arXiv 2204.01026) names density-aware hierarchical heatmap aggregation, DHA. Its code
was never released, and the text of the paper was not at hand when this was written. What is whose:

*The paper's (its abstract, its site, answers of its authors):* people are sparse in the whole and dense in places;
several heatmaps of different resolution, the finest with cells of 0.24 x 0.32 m, twice a pillar of 0.12 x 0.16 m, on
x in [0, 30.72] and y in [-20.48, 20.48] m; the finest lets one cell have one person; a detector of centres.

*Inferred:* coarse cells hold several people, so that their response tells how dense a place is; the levels are weighted
at each place by the density.

*Our own formulation, "DHA-R":* everything else, namely the density map and its target, kernels of targets that follow
the distance of the nearest neighbour, the sum of logits with gates and its supervision, the coarse map of where people
are, weights of the focal loss, and suppression whose radius follows the density. Every part has a switch. Weights of
the loss by the people within 3 m and the vector to the nearest person are those of PCP-MV (arXiv 2505.16029).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet3d.structures import Det3DDataSample
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.crowd.aggregation import LevelAggregation
from perception3d.models.crowd.boxes import CODE_SIZE
from perception3d.models.crowd.decoding import Decoder
from perception3d.models.crowd.losses import LossWeights, crowd_losses
from perception3d.models.crowd.maps import CrowdMaps, grids_of
from perception3d.models.crowd.people import gather_people
from perception3d.models.crowd.pictures import ground_maps, names_of_maps
from perception3d.models.crowd.targets import TargetRules
from perception3d.registry import MODELS

# Logit of a probability of 0.1, with which focal losses start well.
_PRIOR_LOGIT = -2.19
_COARSE_LOGIT = 2.0
_COARSE_FACTOR = 0.25


@dataclass(frozen=True)
class Parts:
    """Which maps a head has.

    Attributes:
        levels: number of heatmaps; the maps of the neck, finest first.
        aggregation: how they are joined, see `LevelAggregation`.
        density: the map of people per disc of 2 m radius.
        coarse: the coarse map of where people are, whose log-probability is added to the heatmap.
        relation: the vector to the nearest other person.
        counts: the number of people in each cell of the levels but the first.
        channels: channels between the two convolutions of each map.
    """

    levels: int = 3
    aggregation: str = 'density'
    density: bool = True
    coarse: bool = True
    relation: bool = False
    counts: bool = False
    channels: int = 64

    def __post_init__(self) -> None:
        if self.levels == 1 and self.aggregation != 'single':
            raise InputError(f"parts.levels is 1, parts.aggregation {self.aggregation!r}: one level has 'single'")
        if self.aggregation == 'density' and not self.density:
            raise InputError("parts.aggregation 'density' needs the density map: set parts.density=True, or 'learned'")


def _branch(inputs: int, channels: int, outputs: int, bias: float = 0.0) -> nn.Sequential:
    """Returns conv3x3 - batch norm - ReLU - conv3x3, with small weights at its end."""
    last = nn.Conv2d(channels, outputs, 3, padding=1)
    nn.init.normal_(last.weight, std=0.01)
    assert last.bias is not None
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(
        ConvModule(inputs, channels, 3, padding=1, norm_cfg=dict(type='BN', eps=1e-3, momentum=0.01)), last
    )


@MODELS.register_module()
class DensityHeatmapHead(BaseModule):
    """Heatmaps of people's centres on several levels, joined to one, with the box of the person in every cell.

    On features F_l (B, C, H_l, W_l), finest level 0, of L levels:

    - heatmap logits Z_l of each level; U_l is Z_l upsampled bilinearly to level 0;
    - density D = softplus(..(F_0)), people per disc of 2 m radius;
    - gates a_l from U, D and F_0 (`LevelAggregation`); coarse logits G of level L - 1;
    - heatmap sigmoid(sum_l a_l U_l + g * logsigmoid(upsampled G)), g learned, 0.25 at the start;
    - codes of boxes (`boxes.encode`) on F_0, and optionally the vector to the nearest person.

    See the module for what is the paper's. One class: people, label 0; label -1 are people that are not learned, around
    whom there is no loss. With `parts=dict(levels=1, aggregation='single', density=False, coarse=False)` and
    `targets=dict(kernel='fixed', weighted=False)` it is the head of CenterPoint (arXiv 2006.11275) for one class, with
    one branch for all codes; two people in one cell share it.

    Args:
        in_channels: channels C of each level.
        range_m: (x0, y0, x1, y1) that every map covers, metres, LiDAR frame.
        parts, targets, loss, decoder: values of `Parts`, `TargetRules`, `LossWeights` and `Decoder`.
        keep_maps: which maps `predict` adds to its samples: names of `pictures.ground_maps`, True for all.
    """

    num_classes = 1

    def __init__(
        self,
        in_channels: int,
        range_m: Sequence[float],
        parts: dict[str, Any] | None = None,
        targets: dict[str, Any] | None = None,
        loss: dict[str, Any] | None = None,
        decoder: dict[str, Any] | None = None,
        keep_maps: bool | Sequence[str] = False,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.range_m = tuple(map(float, range_m))
        self.parts, self.rules = Parts(**(parts or {})), TargetRules(**(targets or {}))
        self.loss_weights, self.decoder = LossWeights(**(loss or {})), Decoder(**(decoder or {}))
        self.keep_maps = names_of_maps(keep_maps)
        self._check_levels()
        levels, channels = self.parts.levels, self.parts.channels
        self.heatmap_branches = nn.ModuleList(
            _branch(in_channels, channels, 1 + (self.parts.counts and k > 0), _PRIOR_LOGIT) for k in range(levels)
        )
        self.box_branch = _branch(in_channels, channels, CODE_SIZE + 2 * self.parts.relation)
        self.density_branch = _branch(in_channels, channels, 1) if self.parts.density else None
        self.coarse_branch = _branch(in_channels, channels, 1, _COARSE_LOGIT) if self.parts.coarse else None
        self.coarse_factor = nn.Parameter(torch.tensor(_COARSE_FACTOR)) if self.parts.coarse else None
        self.aggregate = LevelAggregation(self.parts.aggregation, levels, in_channels)

    def _check_levels(self) -> None:
        rules, levels = self.rules, self.parts.levels
        if rules.kernel == 'density' and len(rules.sigmas_m) < levels:
            raise InputError(f'targets.sigmas_m has {len(rules.sigmas_m)} pairs, parts.levels is {levels}: one a level')
        if self.parts.density and self.aggregate_is_gated and len(rules.gate_densities) != levels:
            raise InputError(
                f'targets.gate_densities has {len(rules.gate_densities)} numbers, parts.levels is {levels}: one a level'
            )

    @property
    def aggregate_is_gated(self) -> bool:
        """Whether levels are joined with gates."""
        return self.parts.aggregation in ('learned', 'density')

    @property
    def map_range_m(self) -> tuple[float, ...]:
        """(x0, y0, x1, y1) that the maps are taken to cover, metres."""
        return self.range_m

    def forward(self, features: Sequence[Tensor]) -> CrowdMaps:
        """Returns the maps of features (B, C, H_l, W_l) of each level, finest first."""
        if len(features) != self.parts.levels:
            raise InputError(
                f'the neck gives {len(features)} maps, but the head has parts.levels={self.parts.levels}: change one'
            )
        grids_of(self.range_m, features)
        heat = [branch(x).float() for branch, x in zip(self.heatmap_branches, features, strict=True)]
        levels = tuple(x[:, :1] for x in heat)
        density = None if self.density_branch is None else F.softplus(self.density_branch(features[0]).float())
        heatmap, gates = levels[0], None
        if self.parts.levels > 1 and self.parts.aggregation != 'single':
            upsampled = torch.cat([levels[0], *(_upsampled(x, levels[0]) for x in levels[1:])], 1)
            heatmap, gates = self.aggregate(upsampled, features[0], density)
        coarse = None
        if self.coarse_branch is not None and self.coarse_factor is not None:
            coarse = self.coarse_branch(features[-1]).float()
            heatmap = heatmap + self.coarse_factor * F.logsigmoid(_upsampled(coarse, heatmap))
        codes = self.box_branch(features[0]).float()
        relation = codes[:, CODE_SIZE:] if self.parts.relation else None
        counts = tuple(x[:, 1:] for x in heat[1:]) if self.parts.counts else None
        return CrowdMaps(heatmap, codes[:, :CODE_SIZE], levels, gates, density, coarse, relation, counts)

    def loss(self, features: Sequence[Tensor], batch_data_samples: list[Det3DDataSample], **_: Any) -> dict:
        """Returns the losses of a batch, see `losses.crowd_losses`, from `gt_instances_3d` of its samples."""
        maps = self(features)
        people = gather_people([sample.gt_instances_3d for sample in batch_data_samples], maps.heatmap.device)
        return crowd_losses(maps, people, self.range_m, self.rules, self.loss_weights)

    @torch.no_grad()
    def predict(self, features: Sequence[Tensor], batch_data_samples: list[Det3DDataSample], **_: Any) -> list:
        """Returns boxes of each sample as InstanceData (bboxes_3d of 9 numbers, scores_3d, labels_3d).

        With `keep_maps`, each sample gets these maps as `pred_maps`, which pictures show.
        """
        return self.boxes_of_maps(self(features), batch_data_samples)

    def boxes_of_maps(self, maps: CrowdMaps, batch_data_samples: list[Det3DDataSample]) -> list[InstanceData]:
        """As `predict`, from what `forward` returned."""
        results = []
        found = self.decoder(maps, grids_of(self.range_m, maps.levels)[0])
        for (boxes, scores), sample in zip(found, batch_data_samples, strict=True):
            prediction = InstanceData()
            prediction.bboxes_3d = sample.metainfo['box_type_3d'](boxes, box_dim=9)
            prediction.scores_3d = scores
            prediction.labels_3d = torch.zeros_like(scores, dtype=torch.long)
            results.append(prediction)
        for k, sample in enumerate(batch_data_samples if self.keep_maps else ()):
            sample.pred_maps = ground_maps(maps, k, self.range_m, self.keep_maps)
        return results


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode='bilinear', align_corners=False)
