"""Local graphs against torch's topk over all distances."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perception3d.distill.losses import point_distiller
from perception3d.distill.losses.local_graph import LocalGraph, local_graph, rows_of_graph
from perception3d.distill.losses.point_distiller import PointDistiller


def torch_graph(vectors: Tensor, importance: Tensor, nodes: int, neighbors: int) -> LocalGraph:
    """The graph by torch alone, as on a GPU."""
    best = importance.topk(nodes)
    centred = vectors - vectors.mean(0)
    near = torch.cdist(centred[best.indices], centred, compute_mode='donot_use_mm_for_euclid_dist').topk(
        neighbors, largest=False
    )
    return LocalGraph(best.indices, near.indices, best.values)


@pytest.mark.parametrize('neighbors', [1, 5, 40])
def test_neighbors_are_those_of_torch(neighbors: int) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, importance = torch.randn(300, 8, generator=generator) + 20, torch.rand(300, generator=generator)
    graph, wanted = (make(vectors, importance, 50, neighbors) for make in (local_graph, torch_graph))
    # A near tie may fall either way in float32, not by more than rounding.
    far = torch.cdist(vectors.double(), vectors.double())
    distances = [far[g.nodes[:, None], g.neighbors].sort(1).values[g.nodes.argsort()] for g in (graph, wanted)]
    torch.testing.assert_close(*distances, rtol=1e-5, atol=0)
    assert all(len(row.unique()) == neighbors for row in graph.neighbors)


def test_rows_of_a_graph_are_its_nodes_and_neighbors_alone() -> None:
    graph = LocalGraph(torch.tensor([7, 2]), torch.tensor([[7, 4], [4, 9]]), torch.tensor([3.0, 1.0]))
    rows, small = rows_of_graph(graph, 11)
    assert rows.tolist() == [2, 4, 7, 9]
    assert small.nodes.tolist() == [2, 0] and small.neighbors.tolist() == [[2, 1], [1, 3]]
    assert torch.equal(small.importance, graph.importance)


@pytest.mark.parametrize('ties', [False, True])
def test_the_kernel_on_rows_of_the_graph_gives_what_torch_gives_on_all(
    ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, c, 30, 40, generator=generator, dtype=torch.float64) for c in (6, 8))
    if ties:
        # As in empty space: most cells are equal, in both networks.
        student[..., 5:], teacher[..., 5:] = 0.5, -0.25
    torch.manual_seed(0)
    settings = dict(num_nodes=250, num_neighbors=32, importance='feature', teacher_branch='learned')
    loss = PointDistiller(6, 8, 16, **settings).double()

    def run() -> tuple[Tensor, ...]:
        x = student.clone().requires_grad_()
        loss.zero_grad()
        value = loss(x, teacher)
        value.backward()
        # Which of equal cells is a neighbour, and gets the gradient, is open.
        gradient = x.grad[..., :5], x.grad[..., 5:].sum((2, 3))
        return value.detach(), *gradient, *(p.grad.clone() for p in loss.parameters())

    fast = run()
    monkeypatch.setattr(point_distiller, 'local_graph', torch_graph)
    monkeypatch.setattr(point_distiller, 'rows_of_graph', lambda graph, count: (torch.arange(count), graph))
    torch.testing.assert_close(fast, run())
