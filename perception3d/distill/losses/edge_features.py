"""Edge features of local graphs: convolution, batch norm and ReLU over N x K edges with the memory of N nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.distill.losses.local_graph import LocalGraph

# Values of edges that are computed at a time: a few MB, which fit into the cache of a CPU.
_EDGE_VALUES = 2**20


class EdgeLayer(nn.Module):
    """1x1 convolution and batch norm over edges [x_j, x_i], computed as the sum of two terms on the vectors.

    W [x_j, x_i] = W_1 x_j + W_2 x_i needs one product per vector instead of one per edge, and batch norm is a scale and
    an offset once mean and variance are known. Both are over all edges of the batch, and follow from sums over nodes
    and over neighbourhoods of W_1 x_j and W_2 x_i. There are no running statistics: a loss is never in eval mode.

    Args:
        in_channels: channels C of a vector.
        channels: of an edge.
        difference: edges [x_j - x_i, x_i] instead.
        affine: batch norm has a learned scale and offset.
        trained: the weights are learned; else they are a fixed random projection with orthonormal rows.
    """

    def __init__(
        self, in_channels: int, channels: int, difference: bool = False, affine: bool = True, trained: bool = True
    ) -> None:
        super().__init__()
        self.difference, self.eps = difference, 1e-5
        weight = torch.empty(channels, 2 * in_channels)
        if trained:
            self.weight = nn.Parameter(nn.init.kaiming_normal_(weight, mode='fan_out', nonlinearity='relu'))
        else:
            self.register_buffer('weight', nn.init.orthogonal_(weight))
        self.scale = nn.Parameter(torch.ones(channels)) if affine else None
        self.offset = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, vectors: Sequence[Tensor], graphs: Sequence[LocalGraph]) -> list[tuple[Tensor, Tensor]]:
        """Returns for each sample the terms (V, D) of neighbours and (N, D) of nodes, before the ReLU.

        The value of edge (i, j) before the ReLU is row `neighbors[i, k]` = j of the first plus row i of the second.
        """
        near, centre = self.weight.chunk(2, 1)
        centre = centre - near if self.difference else centre
        sides = [(x @ near.T, x.index_select(0, graph.nodes) @ centre.T) for x, graph in zip(vectors, graphs)]
        edges = sum(graph.neighbors.numel() for graph in graphs)
        degrees = [torch.bincount(g.neighbors.flatten(), minlength=len(x)).to(x) for x, g in zip(vectors, graphs)]
        # Centred before they are squared, so that large means do not cause rounding errors.
        means = [
            sum(degree @ side[0] for degree, side in zip(degrees, sides)) / edges,
            sum(g.neighbors.shape[1] * side[1].sum(0) for g, side in zip(graphs, sides)) / edges,
        ]
        sides = [(a - means[0], b - means[1]) for a, b in sides]
        variance = near.new_zeros(len(near))
        for graph, degree, (a, b) in zip(graphs, degrees, sides):
            products = _EdgeProduct.apply(a, b, graph.neighbors, degree)
            variance = variance + degree @ a.square() + graph.neighbors.shape[1] * b.square().sum(0) + 2 * products
        scale = (variance.clamp(min=0) / edges + self.eps).rsqrt()
        if self.scale is None or self.offset is None:
            return [(a * scale, b * scale) for a, b in sides]
        scale = scale * self.scale
        return [(a * scale, b * scale + self.offset) for a, b in sides]


def squared_edge_gap(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], neighbors: Tensor, weights: Tensor
) -> Tensor:
    """Sum over nodes i of weights_i * sum over neighbours and channels of (relu(S_ij) - relu(T_ij))^2.

    `student` and `teacher` are the terms that `EdgeLayer` returns, `neighbors` (N, K), `weights` (N,). Edges and their
    gradients are computed for a few nodes at a time, so that memory does not grow with N x K.
    """
    return _EdgeGap.apply(*student, *teacher, neighbors, weights)


def squared_pooled_gap(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], neighbors: Tensor, weights: Tensor
) -> Tensor:
    """As `squared_edge_gap`, for the largest value over the neighbours of a node in each channel.

    The term of the node is the same for all its edges and the ReLU is monotonic: the maximum is that of the first term.
    """
    pooled, teacher_pooled = (
        (F.embedding_bag(neighbors, near, mode='max') + centre).relu() for near, centre in (student, teacher)
    )
    return ((pooled - teacher_pooled).square().sum(1) * weights).sum()


class _EdgeProduct(torch.autograd.Function):
    """Sum over edges (i, j) of b_i * a_j by channel, of a (V, D) and b (N, D); `degrees` (V,) counts edges to each j.

    The gradient for a sums b over the edges to each j. Edges are sorted by j, so that no tensor (N, K, D) is needed.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, neighbors: Tensor, degrees: Tensor) -> Tensor:
        neighbor_sums = F.embedding_bag(neighbors, a, mode='sum')
        ctx.save_for_backward(b, neighbor_sums, neighbors, degrees)
        return (b * neighbor_sums).sum(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        b, neighbor_sums, neighbors, degrees = ctx.saved_tensors
        nodes = neighbors.flatten().argsort().div_(neighbors.shape[1], rounding_mode='floor')
        first = degrees.long().cumsum(0) - degrees.long()
        return F.embedding_bag(nodes, b * grad, first, mode='sum'), neighbor_sums * grad, None, None


class _EdgeGap(torch.autograd.Function):
    """`squared_edge_gap`; the gradient is computed in the forward pass, where the edges exist."""

    @staticmethod
    def forward(
        ctx: Any, near_s: Tensor, centre_s: Tensor, near_t: Tensor, centre_t: Tensor, neighbors: Tensor, weights: Tensor
    ) -> Tensor:
        count, channels = neighbors.shape[1], near_s.shape[1]
        step = max(1, _EDGE_VALUES // (count * channels))
        needs_gradient = [any(ctx.needs_input_grad[i : i + 2]) for i in (0, 2)]
        gradients = [
            torch.zeros_like(x) if needs_gradient[side // 2] else None
            for side, x in enumerate((near_s, centre_s, near_t, centre_t))
        ]
        total = near_s.new_zeros(())
        for begin in range(0, len(neighbors), step):
            part = slice(begin, begin + step)
            rows, weight = neighbors[part].flatten(), weights[part, None, None]
            student, teacher = (
                near.index_select(0, rows).view(-1, count, channels).add_(centre[part, None]).relu_()
                for near, centre in ((near_s, centre_s), (near_t, centre_t))
            )
            gap = student - teacher
            weighted = gap * weight
            total += (weighted * gap).sum()
            for side, (value, sign) in enumerate(((student, 2.0), (teacher, -2.0))):
                near_gradient, centre_gradient = gradients[2 * side : 2 * side + 2]
                if near_gradient is not None and centre_gradient is not None:
                    gradient = weighted.mul(value > 0).mul_(sign)
                    near_gradient.index_add_(0, rows, gradient.view(-1, channels))
                    centre_gradient[part] = gradient.sum(1)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if x is None else x * grad for x in ctx.saved_tensors), None, None
