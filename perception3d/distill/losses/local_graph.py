"""Local graphs: the most important vectors of a sample, and to each its nearest ones in feature space."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from perception3d.ops.smallest import smallest_columns

# Distances at a time: 16 MB.
_DISTANCES = 2**22


class LocalGraph(NamedTuple):
    """K edges from each of N nodes.

    Attributes:
        nodes: rows (N,) of the vectors in the middle.
        neighbors: rows (N, K) of the nearest vectors, the node itself among them.
        importance: (N,) of the nodes.
    """

    nodes: Tensor
    neighbors: Tensor
    importance: Tensor


@torch.no_grad()
def local_graph(vectors: Tensor, importance: Tensor, num_nodes: int, num_neighbors: int) -> LocalGraph:
    """Finds the `num_nodes` most important rows of `vectors` (V, C) and their `num_neighbors` nearest rows.

    Fewer where there are fewer rows. Distances are Euclidean between the vectors; no step holds all of them.
    `importance` is (V,).
    """
    best = importance.topk(min(num_nodes, len(vectors)), sorted=False)
    count = min(num_neighbors, len(vectors))
    # Rounding of |x|^2 - 2 q.x, which ranks as the distance to q does, grows with the distance to the origin.
    vectors = vectors - vectors.mean(0)
    squares = vectors.square().sum(1)
    step = max(1, _DISTANCES // len(vectors))
    buffer = vectors.new_empty(min(step, len(best.indices)), len(vectors))
    found = []
    for nodes in best.indices.split(step):
        queries = vectors.index_select(0, nodes)
        # Into a buffer, which autocast leaves in full precision.
        distances = torch.addmm(squares, queries, vectors.T, alpha=-2, out=buffer[: len(nodes)])
        if distances.device.type == 'cpu':
            found.append(smallest_columns(distances, count))
        else:
            found.append(distances.topk(count, dim=1, largest=False, sorted=False).indices)
    return LocalGraph(best.indices, torch.cat(found), best.values)


@torch.no_grad()
def rows_of_graph(graph: LocalGraph, num_vectors: int) -> tuple[Tensor, LocalGraph]:
    """Returns the rows (U,) of `num_vectors` that the graph holds, in order, and the graph by their places among them.

    Neighbours of many nodes are the same few: of 10,000 cells of a map, 256 nodes with 32 neighbours may hold 800.
    """
    used = torch.zeros(num_vectors, dtype=torch.bool, device=graph.nodes.device)
    # Where more than K vectors are equal, a node need not be its own neighbour.
    used[graph.nodes] = True
    used[graph.neighbors.flatten()] = True
    place = used.cumsum(0) - 1
    return used.nonzero()[:, 0], LocalGraph(place[graph.nodes], place[graph.neighbors], graph.importance)
