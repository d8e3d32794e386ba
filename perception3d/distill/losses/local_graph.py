"""Local graphs: the most important vectors of a sample, and to each its nearest ones in feature space."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

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
    # Rounding of |x|^2 - 2 q.x grows with the distance to the origin; distances do not depend on it.
    vectors = vectors - vectors.mean(0)
    # One product gives |x|^2 - 2 q.x, which ranks as the distance to q does.
    columns = torch.cat([vectors * -2, vectors.square().sum(1, keepdim=True)], 1).T.contiguous()
    step = max(1, _DISTANCES // len(vectors))
    buffer = vectors.new_empty(min(step, len(best.indices)), len(vectors))
    found = []
    for nodes in best.indices.split(step):
        queries = F.pad(vectors.index_select(0, nodes), (0, 1), value=1.0)
        distances = torch.mm(queries, columns, out=buffer[: len(nodes)])
        found.append(distances.topk(count, dim=1, largest=False, sorted=False).indices)
    return LocalGraph(best.indices, torch.cat(found), best.values)
