"""Local graphs: the most important vectors of a sample, each with its nearest neighbours in feature space."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from perception3d.ops.smallest import smallest_columns

# Distances that are computed at a time: 16 MB.
_DISTANCES = 2**22


class LocalGraph(NamedTuple):
    """K edges from each of N nodes.

    Attributes:
        nodes: rows (N,) of the central vectors.
        neighbors: rows (N, K) of the nearest vectors, including the node itself.
        importance: (N,) of the nodes.
    """

    nodes: Tensor
    neighbors: Tensor
    importance: Tensor


@torch.no_grad()
def local_graph(vectors: Tensor, importance: Tensor, num_nodes: int, num_neighbors: int) -> LocalGraph:
    """Finds the `num_nodes` most important rows of `vectors` (V, C) and their `num_neighbors` nearest rows.

    Fewer where there are fewer rows. Distances are Euclidean; they are computed in portions, to save memory.
    `importance` is (V,).
    """
    best = importance.topk(min(num_nodes, len(vectors)), sorted=False)
    count = min(num_neighbors, len(vectors))
    # |x|^2 - 2 q.x has the same order as the distance to q; its rounding error grows with the distance to the origin.
    vectors = vectors - vectors.mean(0)
    squares = vectors.square().sum(1)
    step = max(1, _DISTANCES // len(vectors))
    buffer = vectors.new_empty(min(step, len(best.indices)), len(vectors))
    neighbors = []
    for nodes in best.indices.split(step):
        queries = vectors.index_select(0, nodes)
        # Written into a buffer, so that autocast does not change its precision.
        distances = torch.addmm(squares, queries, vectors.T, alpha=-2, out=buffer[: len(nodes)])
        if distances.device.type == 'cpu':
            neighbors.append(smallest_columns(distances, count))
        else:
            neighbors.append(distances.topk(count, dim=1, largest=False, sorted=False).indices)
    return LocalGraph(best.indices, torch.cat(neighbors), best.values)


@torch.no_grad()
def rows_of_graph(graph: LocalGraph, num_vectors: int) -> tuple[Tensor, LocalGraph]:
    """Returns the rows (U,) of `num_vectors` that the graph uses, in order, and the graph with indices into them.

    Many nodes share neighbours: of the 10,000 cells of a map, 256 nodes with 32 neighbours may use only 800.
    """
    used = torch.zeros(num_vectors, dtype=torch.bool, device=graph.nodes.device)
    # Where more than K vectors are equal, a node may not be its own neighbour.
    used[graph.nodes] = True
    used[graph.neighbors.flatten()] = True
    index = used.cumsum(0) - 1
    return used.nonzero()[:, 0], LocalGraph(index[graph.nodes], index[graph.neighbors], graph.importance)
