"""Losses of a crowd head, in float32 whatever the maps were computed in. Formulas are those of DHA-R, see `head`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.logging import MessageHub
from torch import Tensor
from torch.nn import functional as F

from perception3d.models.crowd.boxes import CODE_SIZE, encode, rows_at
from perception3d.models.crowd.maps import CrowdMaps, MapGrid, grids_of
from perception3d.models.crowd.people import People, nearest_others
from perception3d.models.crowd.targets import (
    LevelTargets,
    TargetRules,
    coarse_target,
    count_target,
    density_target,
    gate_prior,
    level_targets,
)
from perception3d.models.heads.heatmap import heatmap_loss

# Density and gates are learned mostly where people are: cells whose heatmap is above this.
_NEAR_PEOPLE = 0.1


@dataclass(frozen=True)
class LossWeights:
    """Factors of the losses [P]; a loss whose map a head does not have is left out.

    Attributes:
        levels: of the heatmaps of the levels; that of the joined heatmap is 1.
        density, gate, coarse, box, relation, counts: of the other maps. That of the gate falls to 0 linearly.
        gate_until: the share of the training after which the gate is no longer supervised.
        near_people: weight of the density in cells near people, against 1 elsewhere.
        codes: of the ten codes of a box, as CenterPoint has them.
    """

    levels: float = 0.5
    density: float = 0.2
    gate: float = 0.1
    coarse: float = 0.2
    box: float = 0.25
    relation: float = 0.2
    counts: float = 0.2
    gate_until: float = 1 / 3
    near_people: float = 5.0
    codes: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)


def crowd_losses(
    maps: CrowdMaps, people: People, range_m: Sequence[float], rules: TargetRules, weights: LossWeights
) -> dict[str, Tensor]:
    """Returns the losses of a batch, weighted, scalars.

    `loss_heatmap`, `loss_box`, `loss_level0`, ..: focal and L1 losses. Where the maps have them: `loss_density`,
    `loss_gate`, `loss_coarse`, `loss_relation`, `loss_counts`. People are counted over all processes.
    """
    grids = grids_of(range_m, maps.levels)
    with torch.no_grad():
        targets = [level_targets(people, grid, rules, k) for k, grid in enumerate(grids)]
    with torch.autocast(maps.heatmap.device.type, enabled=False):
        losses = {'loss_heatmap': _focal(maps.heatmap, targets[0])}
        losses['loss_box'] = weights.box * box_loss(maps.codes, people, grids[0], weights.codes)
        # A level that is the joined heatmap itself has its loss already.
        for k, (logits, target) in enumerate(zip(maps.levels, targets, strict=True)):
            if logits is not maps.heatmap:
                losses[f'loss_level{k}'] = weights.levels * _focal(logits, target)
        losses |= _density_losses(maps, people, grids[0], targets[0], rules, weights)
        if maps.coarse is not None:
            occupied, unknown = coarse_target(people, grids[-1], rules.coarse_radius_m)
            each = F.binary_cross_entropy_with_logits(maps.coarse.float(), occupied.float(), reduction='none')
            losses['loss_coarse'] = weights.coarse * _mean(each, ~unknown)
        if maps.relation is not None:
            losses['loss_relation'] = weights.relation * relation_loss(
                maps.relation, people, grids[0], rules.relation_radius_m
            )
        if maps.counts is not None:
            each_level = [
                _mean(F.smooth_l1_loss(own.float(), count_target(people, grid).log1p(), reduction='none'), ~t.ignored)
                for own, grid, t in zip(maps.counts, grids[1:], targets[1:], strict=True)
            ]
            losses['loss_counts'] = weights.counts * torch.stack(each_level).sum()
    return losses


def _density_losses(
    maps: CrowdMaps, people: People, grid: MapGrid, target: LevelTargets, rules: TargetRules, weights: LossWeights
) -> dict[str, Tensor]:
    if maps.density is None:
        return {}
    density, unknown = density_target(people, grid, rules.density)
    near = (target.heatmap > _NEAR_PEOPLE) & ~unknown
    losses = {
        'loss_density': weights.density * density_loss(maps.density, density, near, ~unknown, weights.near_people)
    }
    if maps.gates is not None:
        share = weights.gate * max(0.0, 1 - training_progress() / weights.gate_until)
        losses['loss_gate'] = share * gate_loss(maps.gates, gate_prior(density, rules), near)
    return losses


def _focal(logits: Tensor, target: LevelTargets) -> Tensor:
    """Focal loss of a level, divided by its cells with a person over all processes."""
    count = (target.heatmap == 1).sum().float()
    return heatmap_loss(logits.float(), target.heatmap, target.weight) / _objects(count)


def _objects(count: Tensor) -> Tensor:
    all_reduce(count, 'sum')
    return count.clamp(min=1) / get_world_size()


def _mean(values: Tensor, kept: Tensor) -> Tensor:
    """Returns the mean of the values that are kept, 0 where none is."""
    return (values * kept).sum() / kept.sum().clamp(min=1)


def box_loss(codes: Tensor, people: People, grid: MapGrid, code_weights: Sequence[float]) -> Tensor:
    """Returns the L1 loss of codes (B, 10, H, W) in the cells of people, divided by their number.

    An unknown velocity, NaN, takes no part.
    """
    wanted, cells, inside = encode(people, grid)
    used = inside & people.known
    own = rows_at(codes, cells).float()
    known = wanted.isfinite() & used[..., None]
    gap = (own - torch.where(known, wanted, own.detach())).abs()
    assert gap.shape[-1] == CODE_SIZE
    return (gap * gap.new_tensor(code_weights)).sum() / _objects(used.sum().float())


def relation_loss(relation: Tensor, people: People, grid: MapGrid, radius_m: float) -> Tensor:
    """Returns the L1 loss of vectors (B, 2, H, W) to the nearest other person, of people who have one in `radius_m`.

    As the relation target of PCP-MV (arXiv 2505.16029).
    """
    distance, vector = nearest_others(people)
    _, cells, inside = encode(people, grid)
    used = inside & people.known & (distance <= radius_m)
    gap = (rows_at(relation, cells).float() - vector).abs().sum(-1) * used
    return gap.sum() / _objects(used.sum().float())


def density_loss(density: Tensor, wanted: Tensor, near: Tensor, kept: Tensor, near_weight: float) -> Tensor:
    """Returns the weighted mean of smooth L1 losses of log(1 + density), all (B, 1, H, W), over the cells `kept`."""
    each = F.smooth_l1_loss(density.float().log1p(), wanted.log1p(), reduction='none')
    weight = (1 + (near_weight - 1) * near) * kept
    return (each * weight).sum() / weight.sum().clamp(min=1)


def gate_loss(gates: Tensor, prior: Tensor, near: Tensor) -> Tensor:
    """Returns the mean over cells `near` (B, 1, H, W) people of KL(prior || gates), both (B, L, H, W)."""
    tiny = torch.finfo(torch.float32).tiny
    gates = gates.float().clamp(min=tiny)
    each = (prior * (prior.clamp(min=tiny).log() - gates.log())).sum(1, keepdim=True)
    return _mean(each, near)


def training_progress() -> float:
    """Returns the share of the running training that is done, as mmengine's runner counts; 0 without one."""
    hub = MessageHub.get_current_instance()
    length = hub.get_info('max_iters', None)
    return int(hub.get_info('iter', 0) or 0) / length if length else 0.0
