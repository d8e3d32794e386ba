"""PointDistiller: Structured Knowledge Distillation Towards Efficient and Compact 3D Detection (arXiv 2205.11098)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.edge_features import EdgeLayer, squared_edge_gap, squared_pooled_gap
from perception3d.distill.losses.local_graph import LocalGraph, local_graph, rows_of_graph
from perception3d.distill.losses.maps import choice, full_precision, positive, resampling
from perception3d.distill.losses.vectors import VectorSets, vector_sets
from perception3d.registry import MODELS


def point_distiller_loss(
    student: Sequence[tuple[Tensor, Tensor]],
    teacher: Sequence[tuple[Tensor, Tensor]],
    graphs: Sequence[LocalGraph],
    weights: Sequence[Tensor],
    pool: str = 'none',
) -> Tensor:
    """Compares the edges of local graphs (equation 2 of the paper).

    L = sum over samples, their nodes i, neighbours j and channels D of weights_i * (G^S_ij - G^T_ij)^2, where
    G_ij = ReLU(a_j + b_i) is the feature of edge (i, j) after convolution, batch norm and ReLU.

    Args:
        student, teacher: for each sample the terms a (V, D) of its vectors and b (N, D) of its nodes, as `EdgeLayer`
            returns them.
        graphs: of each sample, with N nodes and K neighbours.
        weights: (N,) of each sample, such as `reweighting`.
        pool: 'max' compares max over j of G_ij instead of all edges, as for PointRCNN; 'none' all edges.

    Raises:
        InputError: an unknown `pool`.
    """
    squared_gap = squared_pooled_gap if choice('pool', pool, ('none', 'max')) == 'max' else squared_edge_gap
    sides = zip(student, teacher, graphs, weights, strict=True)
    first, *others = (squared_gap(s, t, graph.neighbors, w) for s, t, graph, w in sides)
    return sum(others, first)


def reweighting(importance: Tensor, temperature: float = 1.0) -> Tensor:
    """Weights phi (N,) of nodes, of sum 1: phi_i = s_i^(1/tau) / sum, the softmax of log(importance) / tau.

    Graded weights, whatever the scale of the importance s (N,): with tau = 1 a pillar of 32 points has 32 times the
    weight of one of a single point.
    """
    return (importance.clamp(min=1e-6).log() / temperature).softmax(0)


@MODELS.register_module()
class PointDistiller(nn.Module):
    """`point_distiller_loss`: local distillation and reweighted learning around the most important vectors.

    In each sample the N vectors of the largest importance are nodes, and K edges lead from node i to the nearest
    vectors j in the teacher's feature space, including i itself. With the same edges in both networks

        G_ij = ReLU(BN(W [x_j, x_i])),    L = mean over samples of sum over i of phi_i mean over j, D of (G^S - G^T)^2

    and phi, of sum 1, the `reweighting`. Outputs may be rows of pillars or voxels, sparse tensors, maps or points: see
    `vector_sets`. Statistics of the batch norms are over all edges of the batch.

    The default differs from the released code where that does not do what the paper says:
    - Graphs are within a sample. For pillars the released code has one graph over the batch, whose edges connect
      different frames.
    - phi is that of `reweighting`. The released softmax(s / 0.01) over counts of points is 1 / n on the n fullest
      pillars and 0 elsewhere; for maps and points that code has no weights at all.
    - The teacher's layer has no scale to learn: if both scales are trained, the loss decreases by shrinking them. By
      default W^T is also a fixed random projection, so that the target does not change during the training.

    `semantics='released'` computes what the released code does: one graph over the batch for voxels, both layers and
    their scales learned, 2 * mean over samples, i, j, D of w (G^S - G^T)^2 with w = N softmax(s / tau) for voxels, the
    size of the batch for maps (as for SECOND; its nuScenes detector has 1) and 1 for points. Its temperature is 0.01
    for pillars, and has no effect elsewhere.

    For equal networks the loss is 0 if both layers are equal too.

    Args:
        student_channels, teacher_channels: of the features.
        channels: D of an edge.
        num_nodes: N; fewer where a sample has fewer vectors.
        num_neighbors: K; fewer likewise.
        importance: 'points', the number of points in a voxel, 'feature', the largest channel of the teacher, or, on
            maps, 'scores', the teacher's best class probability in the cell (not in the paper: the largest features
            need not belong to objects).
        temperature: tau.
        edge: 'concat' for [x_j, x_i] or 'difference' for [x_j - x_i, x_i] of DGCNN.
        pool: of `point_distiller_loss`.
        teacher_branch: 'fixed', or 'learned' for a trained W^T; ignored with semantics='released'.
        semantics: 'paper' or 'released'.
        scores: tap of the teacher's class logits (B, C, H, W) for importance='scores'; each cell of the maps has the
            best of its part of their grid.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Raises:
        InputError: an invalid setting, or features that do not fit.
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
        self.importance = choice('importance', importance, ('points', 'feature', 'scores'))
        difference = choice('edge', edge, ('concat', 'difference')) == 'difference'
        self.pool = choice('pool', pool, ('none', 'max'))
        learned = choice('teacher_branch', teacher_branch, ('fixed', 'learned')) == 'learned'
        self.released = choice('semantics', semantics, ('paper', 'released')) == 'released'
        if min(num_nodes, num_neighbors) < 1:
            raise InputError(
                f'invalid num_nodes={num_nodes}, num_neighbors={num_neighbors}: expected at least one of each'
            )
        if (importance == 'scores') != (scores is not None):
            raise InputError(
                "importance='scores' and scores='<tap of the teacher's class logits>' go together: set both"
            )
        self.scores, self.teacher_taps = scores, () if scores is None else (scores,)
        self.channels = student_channels, teacher_channels
        self.num_nodes, self.num_neighbors, self.resample = num_nodes, num_neighbors, resampling(resample)
        self.temperature = positive('temperature', temperature)
        self.student_layer = EdgeLayer(student_channels, channels, difference)
        trained = self.released or learned
        self.teacher_layer = EdgeLayer(teacher_channels, channels, difference, affine=self.released, trained=trained)

    def forward(self, student: Any, teacher: Any, context: DistillContext | None = None) -> Tensor:
        """Scalar loss of features that `vector_sets` understands; 0 where a batch has no vectors."""
        sets = vector_sets(student, teacher, context, self.channels, self.resample)
        if not sets.student:
            return torch.stack([p.sum() for p in self.parameters()]).sum() * 0
        importance = self._importance(sets, student, context)
        vectors, teacher_vectors = sets.student, sets.teacher
        if self.released and sets.layout == 'voxels':
            vectors, teacher_vectors, importance = (
                [torch.cat(rows)] for rows in (vectors, teacher_vectors, importance)
            )
        sizes = (self.num_nodes, self.num_neighbors)
        graphs = [local_graph(x, s, *sizes) for x, s in zip(teacher_vectors, importance)]
        if vectors[0].device.type == 'cpu':
            # A GPU would have to wait for the number of rows, and is faster on all rows.
            compacted = [rows_of_graph(graph, len(x)) for x, graph in zip(teacher_vectors, graphs)]
            rows, graphs = [rows for rows, _ in compacted], [graph for _, graph in compacted]
            vectors, teacher_vectors = (
                [x.index_select(0, kept) for x, kept in zip(side, rows)] for side in (vectors, teacher_vectors)
            )
        terms, teacher_terms = self.student_layer(vectors, graphs), self.teacher_layer(teacher_vectors, graphs)
        weights = [self._weights(graph, len(graphs), sets.layout) for graph in graphs]
        return point_distiller_loss(terms, teacher_terms, graphs, weights, self.pool)

    def _importance(self, sets: VectorSets, student: Any, context: DistillContext | None) -> list[Tensor]:
        if self.importance == 'feature':
            return [x.amax(1) for x in sets.teacher]
        if self.importance == 'scores':
            if sets.layout != 'maps':
                raise InputError(f"importance='scores' is for maps (B, C, H, W), not for {sets.layout}: use 'feature'")
            assert context is not None and self.scores is not None, 'a Link gives the context'
            best = full_precision(context.teacher[self.scores].detach()).amax(1)
            return list(F.adaptive_max_pool2d(best, student.shape[2:]).flatten(1).sigmoid().unbind(0))
        if sets.counts is None:
            raise InputError(
                "importance='points' needs the rows of a voxel encoder, and 'num_points' in the 'voxels' of the batch: "
                "tap a voxel encoder, or set importance='feature' in the loss"
            )
        return [count.to(x.dtype) for count, x in zip(sets.counts, sets.teacher)]

    def _weights(self, graph: LocalGraph, samples: int, layout: str) -> Tensor:
        """The factor (N,) of one squared difference of each node in the loss."""
        nodes, edges = graph.neighbors.shape
        values = (1 if self.pool == 'max' else edges) * self.student_layer.weight.shape[0]
        if not self.released:
            return reweighting(graph.importance, self.temperature) / (values * samples)
        if layout == 'voxels':
            weights = (graph.importance / self.temperature).softmax(0) * nodes
        else:
            weights = torch.full_like(graph.importance, samples if layout == 'maps' else 1)
        return 2 * weights / (values * nodes * samples)
