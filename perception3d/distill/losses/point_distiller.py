"""PointDistiller: Structured Knowledge Distillation Towards Efficient and Compact 3D Detection (arXiv 2205.11098)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError, unknown_name
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.edge_features import EdgeLayer, squared_edge_gap, squared_pooled_gap
from perception3d.distill.losses.local_graph import LocalGraph, local_graph, rows_of_graph
from perception3d.distill.losses.maps import full_precision, positive, resampling
from perception3d.distill.losses.vectors import VectorSets, vector_sets
from perception3d.registry import MODELS


@MODELS.register_module()
class PointDistiller(nn.Module):
    """Local distillation and reweighted learning: edges of graphs around the most important vectors are compared.

    In each sample the N vectors of the largest importance are nodes, and K edges lead from node i to the nearest
    vectors j in the teacher's feature space, i itself among them. With the same edges in both networks

        G_ij = ReLU(BN(W [x_j, x_i])),    L = mean over samples of sum over i of phi_i mean over j, D of (G^S - G^T)^2

    and phi, of sum 1, the reweighting. Outputs may be rows of pillars or voxels, sparse tensors, maps or points: see
    `vector_sets`. Statistics of the batch norms are over all edges of the batch.

    The default differs from the released code where that does not do what the paper says:
    - Graphs are within a sample. For pillars the released code has one graph over the batch, whose edges join frames.
    - phi_i = s_i^(1/tau) / sum, the softmax of log(importance) / tau. It grades, whatever the scale of s: with tau = 1
      a pillar of 32 points counts 32 times one of a single point. The released softmax(s / 0.01) over counts of points
      is 1 / n on the n fullest pillars and nothing elsewhere; for maps and points that code does not weigh at all.
    - The teacher's layer has no scale to learn. Trained with both scales the loss falls by shrinking them. By default
      W^T is a fixed random projection as well, so that the target does not move with the training.

    `semantics='released'` computes what that code does: one graph over the batch for voxels, both layers and their
    scales learned, 2 * mean over samples, i, j, D of w (G^S - G^T)^2 with w = N softmax(s / tau) for voxels, the size
    of the batch for maps (as for SECOND; its nuScenes detector has 1) and 1 for points. Its temperature is 0.01 for
    pillars, and has no effect elsewhere.

    Of equal networks the loss is 0 when both layers are equal too.

    Args:
        student_channels, teacher_channels: of the features.
        channels: D of an edge.
        num_nodes: N; fewer where a sample has fewer vectors.
        num_neighbors: K; fewer likewise.
        importance: 'points', how many points a voxel holds, 'feature', the largest channel of the teacher, or, on maps,
            'scores', the teacher's best class probability in the cell (not in the paper: what lights up most need not
            be an object).
        temperature: tau.
        edge: 'concat' for [x_j, x_i] or 'difference' for [x_j - x_i, x_i] of DGCNN.
        pool: 'none', or 'max' to compare the largest edge of a node in each channel, as for PointRCNN.
        teacher_branch: 'fixed', or 'learned' for a trained W^T; of no meaning to 'released'.
        semantics: 'paper' or 'released'.
        scores: tap of the teacher's class logits (B, C, H, W) for importance='scores'; each cell of the maps has the
            best of its part of their grid.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Raises:
        InputError: a setting or features that do not fit.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        channels: int = 32,
        num_nodes: int = 6000,
        num_neighbors: int = 128,
        importance: str = 'points',
        temperature: float = 1.0,
        edge: str = 'concat',
        pool: str = 'none',
        teacher_branch: str = 'fixed',
        semantics: str = 'paper',
        scores: str | None = None,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        choices = dict(
            importance=(importance, ('points', 'feature', 'scores')),
            edge=(edge, ('concat', 'difference')),
            pool=(pool, ('none', 'max')),
            teacher_branch=(teacher_branch, ('fixed', 'learned')),
            semantics=(semantics, ('paper', 'released')),
        )
        for name, (value, known) in choices.items():
            if value not in known:
                raise unknown_name(name, value, known)
        if min(num_nodes, num_neighbors) < 1:
            raise InputError(f'num_nodes={num_nodes}, num_neighbors={num_neighbors}: give at least one of each')
        if (importance == 'scores') != (scores is not None):
            raise InputError("importance='scores' and scores='<tap of the teacher's class logits>' go together")
        self.scores, self.teacher_taps = scores, () if scores is None else (scores,)
        self.channels = student_channels, teacher_channels
        self.num_nodes, self.num_neighbors, self.resample = num_nodes, num_neighbors, resampling(resample)
        self.importance, self.temperature = importance, positive('temperature', temperature)
        self.gap = squared_pooled_gap if pool == 'max' else squared_edge_gap
        self.pooled, self.released = pool == 'max', semantics == 'released'
        difference = edge == 'difference'
        self.student_layer = EdgeLayer(student_channels, channels, difference)
        trained = self.released or teacher_branch == 'learned'
        self.teacher_layer = EdgeLayer(teacher_channels, channels, difference, affine=self.released, trained=trained)

    def forward(self, student: Any, teacher: Any, context: DistillContext | None = None) -> Tensor:
        """Returns the scalar loss of features that `vector_sets` understands; 0 where a batch has no vectors."""
        sets = vector_sets(student, teacher, context, self.channels, self.resample)
        if not sets.student:
            return sum(p.sum() for p in self.parameters()) * 0
        importance = self._importance(sets, student, context)
        mine, theirs = sets.student, sets.teacher
        if self.released and sets.kind == 'voxels':
            mine, theirs, importance = ([torch.cat(rows)] for rows in (mine, theirs, importance))
        sizes = (self.num_nodes, self.num_neighbors)
        graphs = [local_graph(x, s, *sizes) for x, s in zip(theirs, importance)]
        if mine[0].device.type == 'cpu':
            # A GPU would wait for the number of rows, and computes all of them sooner.
            rows, graphs = zip(*(rows_of_graph(graph, len(x)) for x, graph in zip(theirs, graphs)))
            mine, theirs = ([x.index_select(0, kept) for x, kept in zip(side, rows)] for side in (mine, theirs))
        terms = zip(self.student_layer(mine, graphs), self.teacher_layer(theirs, graphs), graphs)
        return sum(self.gap(s, t, g.neighbors, self._weights(g, graphs, sets.kind)) for s, t, g in terms)

    def _importance(self, sets: VectorSets, student: Any, context: DistillContext | None) -> list[Tensor]:
        if self.importance == 'feature':
            return [x.amax(1) for x in sets.teacher]
        if self.importance == 'scores':
            if sets.kind != 'maps':
                raise InputError(f"importance='scores' is for maps (B, C, H, W), not for {sets.kind}")
            best = full_precision(context.teacher[self.scores].detach()).amax(1)
            return list(F.adaptive_max_pool2d(best, student.shape[2:]).flatten(1).sigmoid().unbind(0))
        if sets.counts is None:
            raise InputError(
                "the points in each voxel are known for the rows of a voxel encoder alone, and 'num_points' must be in "
                "the batch's 'voxels': give the loss importance='feature'"
            )
        return [count.to(x.dtype) for count, x in zip(sets.counts, sets.teacher)]

    def _weights(self, graph: LocalGraph, graphs: list[LocalGraph], kind: str) -> Tensor:
        """What one squared difference of each node (N,) counts in the loss."""
        nodes, edges = graph.neighbors.shape
        values = (1 if self.pooled else edges) * self.student_layer.weight.shape[0]
        if not self.released:
            logarithm = graph.importance.clamp(min=1e-6).log()
            return (logarithm / self.temperature).softmax(0) / (values * len(graphs))
        if kind == 'voxels':
            weights = (graph.importance / self.temperature).softmax(0) * nodes
        else:
            weights = torch.full_like(graph.importance, len(graphs) if kind == 'maps' else 1)
        return 2 * weights / (values * nodes * len(graphs))
