"""PointDistiller against slow references: what the paper says, and what the released code computes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.benchmark.timing import peak_memory
from perception3d.checks import InputError
from perception3d.distill.distiller import Distiller
from perception3d.distill.losses import edge_features, local_graph
from perception3d.distill.losses.point_distiller import PointDistiller
from perception3d.distill.losses.vectors import vector_sets


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(sizes: tuple[int, ...], seed: int = 0, most: int = 32) -> SimpleNamespace:
    """A context with as many voxels in each sample as `sizes` says, of 1 to `most` points."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(sizes)
    sample = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    places = torch.cat([sample[:, None], torch.randperm(total, generator=generator)[:, None].repeat(1, 3)], 1)
    points = torch.randint(1, most + 1, (total,), generator=generator)
    inputs = dict(voxels=dict(coors=places.int(), num_points=points))
    return SimpleNamespace(inputs=inputs, teacher_inputs=inputs)


def build(*channels: int, **settings) -> PointDistiller:
    torch.manual_seed(5)
    loss = PointDistiller(*channels, **settings).double()
    with torch.no_grad():
        for layer in (loss.student_layer, loss.teacher_layer):
            if layer.scale is not None:
                # Some channels are negated, which must matter to a maximum.
                layer.scale.copy_(random(8, len(layer.scale)))
                layer.offset.copy_(random(9, len(layer.offset)))
    return loss


def slow_graph(teacher: Tensor, importance: Tensor, nodes: int, neighbors: int) -> tuple[Tensor, Tensor]:
    chosen = importance.argsort(descending=True)[:nodes]
    return chosen, torch.stack([(teacher - teacher[i]).norm(dim=1).argsort()[:neighbors] for i in chosen])


def slow_edges(x: Tensor, chosen: Tensor, around: Tensor, difference: bool = False) -> Tensor:
    """Edges (2C, N, K)."""
    centre = x[chosen][:, None].expand(-1, around.shape[1], -1)
    near = x[around] - centre if difference else x[around]
    return torch.cat([near, centre], 2).permute(2, 0, 1)


def slow_layer(edges: list[Tensor], weight: Tensor, scale: Tensor | None, offset: Tensor | None) -> list[Tensor]:
    """Convolution, batch norm over the edges of all samples, ReLU: gives (D, N, K) a sample."""
    sizes = [x.shape[1] * x.shape[2] for x in edges]
    flat = torch.cat([x.flatten(1) for x in edges], 1)[None, :, :, None]
    out = F.batch_norm(F.conv2d(flat, weight[:, :, None, None]), None, None, scale, offset, training=True).relu()
    return [y.reshape(len(weight), *x.shape[1:]) for y, x in zip(out[0, :, :, 0].split(sizes, 1), edges)]


def slow_features(loss: PointDistiller, student: list[Tensor], teacher: list[Tensor], graphs, difference=False):
    for layer, sets in ((loss.student_layer, student), (loss.teacher_layer, teacher)):
        edges = [slow_edges(x, *graph, difference) for x, graph in zip(sets, graphs)]
        yield slow_layer(edges, layer.weight, layer.scale, layer.offset)


def distinct(sizes: tuple[int, ...], **settings) -> SimpleNamespace:
    """As `batch`, with importances that differ, so that the choice of nodes is unique."""
    context = batch(sizes, **settings)
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(3))
    context.inputs['voxels']['num_points'] = order + 1
    return context


@pytest.mark.parametrize('branch', ['fixed', 'learned'])
@pytest.mark.parametrize('edge', ['concat', 'difference'])
def test_the_default_is_the_papers_formula_within_each_sample(branch: str, edge: str) -> None:
    sizes, temperature = (9, 14, 5), 2.0
    context, student, teacher = distinct(sizes), random(0, 28, 3), random(1, 28, 4)
    loss = build(
        3, 4, channels=6, num_nodes=7, num_neighbors=4, temperature=temperature, edge=edge, teacher_branch=branch
    )
    vectors, teacher_vectors = student.split(sizes), teacher.split(sizes)
    points = context.inputs['voxels']['num_points'].double().split(sizes)
    graphs = [slow_graph(t, s, 7, 4) for t, s in zip(teacher_vectors, points)]
    expected = 0.0
    features = slow_features(loss, vectors, teacher_vectors, graphs, edge == 'difference')
    for ours, wanted, (chosen, _), s in zip(*features, graphs, points):
        phi = s[chosen] ** (1 / temperature) / (s[chosen] ** (1 / temperature)).sum()
        expected += (phi[:, None] * (ours - wanted).square().mean(0)).sum() / 4 / 3
    torch.testing.assert_close(loss(student, teacher, context), expected)


def test_released_pillars_are_one_graph_over_the_batch_with_a_steep_softmax() -> None:
    sizes = (9, 14, 5)
    context, student, teacher = distinct(sizes), random(0, 28, 3), random(1, 28, 4)
    points = context.inputs['voxels']['num_points']
    loss = build(3, 4, channels=6, num_nodes=12, num_neighbors=5, temperature=0.7, semantics='released')
    graph = slow_graph(teacher, points.double(), 12, 5)
    ours, wanted = (x[0] for x in slow_features(loss, [student], [teacher], [graph]))
    weights = F.softmax(points[graph[0]].double() / 0.7, dim=-1) * 12
    expected = 2 * (F.mse_loss(ours, wanted, reduction='none') * weights[None, :, None]).mean()
    torch.testing.assert_close(loss(student, teacher, context), expected)


def test_released_weights_count_the_fullest_pillars_alone() -> None:
    context, student, teacher = batch((40,), most=3), random(0, 40, 3), random(1, 40, 4)
    points = context.inputs['voxels']['num_points']
    settings = dict(channels=6, num_nodes=40, num_neighbors=5, temperature=0.01, semantics='released')
    loss = build(3, 4, **settings)
    full = (points == 3).nonzero()[:, 0]
    graph = slow_graph(teacher, points.double(), 40, 5)
    ours, wanted = (x[0] for x in slow_features(loss, [student], [teacher], [graph]))
    kept = torch.isin(graph[0], full)
    torch.testing.assert_close(loss(student, teacher, context), 2 * (ours - wanted)[:, kept].square().mean())


def test_released_maps_are_not_reweighted_and_count_the_batch() -> None:
    student, teacher = random(0, 3, 2, 4, 5), random(1, 3, 4, 4, 5)
    settings = dict(channels=6, num_nodes=8, num_neighbors=5, importance='feature', semantics='released')
    loss = build(2, 4, **settings, temperature=1e-4)
    vectors, teacher_vectors = ([x.flatten(1).T for x in maps] for maps in (student, teacher))
    graphs = [slow_graph(t, t.amax(1), 8, 5) for t in teacher_vectors]
    ours, wanted = (torch.stack(x) for x in slow_features(loss, vectors, teacher_vectors, graphs))
    torch.testing.assert_close(loss(student, teacher), 3 * 2 * F.mse_loss(ours, wanted))


@pytest.mark.parametrize('grid', [(4, 5), (8, 10)])
def test_the_teachers_scores_choose_and_weight_the_cells(grid: tuple[int, int]) -> None:
    student, teacher, logits = random(0, 2, 2, 4, 5), random(1, 2, 4, 4, 5), random(2, 2, 6, *grid)
    loss = build(2, 4, channels=6, num_nodes=8, num_neighbors=5, importance='scores', scores='head')
    context = SimpleNamespace(teacher={'head': logits})
    step = grid[0] // 4
    best = logits.amax(1).reshape(2, 4, step, 5, step).amax((2, 4)).sigmoid().flatten(1)
    vectors, teacher_vectors = ([x.flatten(1).T for x in maps] for maps in (student, teacher))
    graphs = [slow_graph(t, s, 8, 5) for t, s in zip(teacher_vectors, best)]
    expected = 0.0
    for ours, wanted, (chosen, _), s in zip(*slow_features(loss, vectors, teacher_vectors, graphs), graphs, best):
        phi = s[chosen] / s[chosen].sum()
        expected += (phi[:, None] * (ours - wanted).square().mean(0)).sum() / 5 / 2
    assert loss.teacher_taps == ('head',)
    torch.testing.assert_close(loss(student, teacher, context), expected)


def test_released_points_are_pooled_and_not_reweighted() -> None:
    student, teacher = random(0, 2, 3, 15), random(1, 2, 4, 15)
    settings = dict(channels=6, num_nodes=8, num_neighbors=5, importance='feature', semantics='released', pool='max')
    loss = build(3, 4, **settings)
    vectors, teacher_vectors = ([x.T for x in points] for points in (student, teacher))
    graphs = [slow_graph(t, t.amax(1), 8, 5) for t in teacher_vectors]
    ours, wanted = (torch.stack(x).amax(3) for x in slow_features(loss, vectors, teacher_vectors, graphs))
    torch.testing.assert_close(loss(student, teacher), 2 * F.mse_loss(ours, wanted))


def test_float32_agrees_with_float64() -> None:
    context, student, teacher = distinct((300, 200)), random(0, 500, 16), random(1, 500, 32)
    loss = build(16, 32, channels=8, num_nodes=100, num_neighbors=16)
    exact = loss(student, teacher + 50, context)
    torch.testing.assert_close(
        loss.float()(student.float(), teacher.float() + 50, context), exact.float(), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize('pool', ['none', 'max'])
@pytest.mark.parametrize('semantics', ['paper', 'released'])
def test_gradients_are_those_of_finite_differences(pool: str, semantics: str) -> None:
    context, teacher = distinct((5, 6)), random(1, 11, 3)
    loss = build(2, 3, channels=3, num_nodes=4, num_neighbors=3, pool=pool, semantics=semantics, temperature=5.0)
    names = [name for name, _ in loss.named_parameters()]

    def value(student: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(loss, dict(zip(names, parameters)), (student, teacher, context))

    inputs = [random(0, 11, 2).requires_grad_(), *(p.detach().requires_grad_() for p in loss.parameters())]
    assert torch.autograd.gradcheck(value, inputs)


def test_edges_in_small_portions_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    context, teacher = distinct((50, 30)), random(1, 80, 4)

    def run() -> tuple[Tensor, ...]:
        student = random(0, 80, 3).requires_grad_()
        loss = build(3, 4, channels=4, num_nodes=40, num_neighbors=6, semantics='released', temperature=20.0)
        value = loss(student, teacher, context)
        value.backward()
        return value.detach(), student.grad, loss.teacher_layer.weight.grad

    whole = run()
    monkeypatch.setattr(edge_features, '_EDGE_VALUES', 100)
    monkeypatch.setattr(local_graph, '_DISTANCES', 100)
    torch.testing.assert_close(run(), whole)


@pytest.mark.parametrize('semantics, branch', [('paper', 'fixed'), ('paper', 'learned'), ('released', 'fixed')])
def test_gradients_reach_the_student_and_what_is_learned(semantics: str, branch: str) -> None:
    context, student, teacher = distinct((20, 30)), random(0, 50, 3).requires_grad_(), random(1, 50, 4).requires_grad_()
    loss = build(3, 4, channels=4, num_nodes=10, num_neighbors=6, semantics=semantics, teacher_branch=branch)
    loss(student, teacher, context).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())
    learned = {name for name, _ in loss.named_parameters() if name.startswith('teacher')}
    by_branch = {'fixed': set(), 'learned': {'teacher_layer.weight'}}
    everything = {f'teacher_layer.{name}' for name in ('weight', 'scale', 'offset')}
    assert learned == (everything if semantics == 'released' else by_branch[branch])
    # A fixed projection must survive a resume.
    assert 'teacher_layer.weight' in loss.state_dict()


@pytest.mark.parametrize('branch', ['fixed', 'learned'])
def test_the_loss_does_not_fall_by_shrinking_the_layers(branch: str) -> None:
    context, student, teacher = distinct((60,)), random(0, 60, 3), random(1, 60, 4)
    values = {}
    for semantics in ('paper', 'released'):
        torch.manual_seed(0)
        settings = dict(channels=8, num_nodes=40, num_neighbors=8, temperature=10.0, teacher_branch=branch)
        loss = PointDistiller(3, 4, **settings, semantics=semantics).double()
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
        for _ in range(40):
            optimizer.zero_grad()
            value = loss(student, teacher, context)
            value.backward()
            optimizer.step()
        values[semantics] = value.item()
    # The student has nothing in common with the teacher here, yet the released loss becomes 0. The other stays near
    # that of a student that predicts the mean for every edge: the variance of a rectified normal number, 0.34.
    assert values['released'] < 0.01
    assert values['paper'] > 0.2


@pytest.mark.parametrize('pool', ['none', 'max'])
@pytest.mark.parametrize('semantics', ['paper', 'released'])
def test_equal_networks_with_equal_layers_have_no_loss(semantics: str, pool: str) -> None:
    context, features = distinct((20, 30)), random(0, 50, 4).requires_grad_()
    loss = PointDistiller(4, 4, 6, 10, 5, semantics=semantics, pool=pool).double()
    with torch.no_grad():
        loss.student_layer.weight.copy_(loss.teacher_layer.weight)
    value = loss(features, features.detach(), context)
    value.backward()
    assert value == 0 and not features.grad.any()


@pytest.mark.parametrize('semantics', ['paper', 'released'])
def test_the_order_of_voxels_and_of_samples_does_not_matter(semantics: str) -> None:
    context, student, teacher = distinct((20, 30)), random(0, 50, 3), random(1, 50, 4)
    loss = build(3, 4, channels=5, num_nodes=12, num_neighbors=5, semantics=semantics, temperature=30.0)
    expected = loss(student, teacher, context)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    voxels = {name: value[order] for name, value in context.inputs['voxels'].items()}
    shuffled = SimpleNamespace(inputs=dict(voxels=voxels))
    shuffled.teacher_inputs = shuffled.inputs
    torch.testing.assert_close(loss(student[order], teacher[order], shuffled), expected)


def test_samples_do_not_mix_by_default() -> None:
    # Features of a sample move far away together: batch norm aside (its weights are fixed), nothing else may change.
    context, teacher = distinct((20, 20)), random(1, 40, 4)
    neighbors = []
    for step in (0.0, 100.0):
        moved = teacher.clone()
        moved[20:] += step
        counts = context.inputs['voxels']['num_points'].split(20)
        parts = zip(moved.split(20), counts)
        neighbors.append([local_graph.local_graph(x, s.double(), 6, 4).neighbors.sort(1).values for x, s in parts])
    torch.testing.assert_close(*neighbors)


def as_rows(maps: Tensor) -> Tensor:
    """The vectors of maps (B, C, H, W) as rows (B * H * W, C)."""
    return maps.flatten(2).transpose(1, 2).flatten(0, 1)


def test_all_forms_of_outputs_are_split_alike() -> None:
    maps, wide = random(0, 2, 3, 4, 5), random(1, 2, 4, 4, 5)
    places = torch.stack(torch.meshgrid(*map(torch.arange, (2, 1, 4, 5)), indexing='ij'), -1).flatten(0, 3)
    inputs = dict(voxels=dict(coors=places, num_points=torch.ones(40)))
    context = SimpleNamespace(inputs=inputs, teacher_inputs=inputs)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    sparse = SimpleNamespace(features=as_rows(wide)[order], indices=places[order].int())
    sets = [
        vector_sets(maps, wide, None),
        vector_sets(maps.flatten(2), wide.flatten(2), None),
        vector_sets(as_rows(maps), as_rows(wide), context),
        vector_sets((as_rows(maps), places), sparse, None),
    ]
    assert [x.layout for x in sets] == ['maps', 'points', 'voxels', 'voxels']
    for other in sets[1:]:
        torch.testing.assert_close(other.student, sets[0].student)
        torch.testing.assert_close(other.teacher, sets[0].teacher)
    loss = build(3, 4, channels=5, num_nodes=12, num_neighbors=5, importance='feature')
    values = [loss(maps, wide), loss(maps.flatten(2), wide.flatten(2)), loss(as_rows(maps), as_rows(wide), context)]
    values.append(loss((as_rows(maps), places), sparse))
    for value in values[1:]:
        torch.testing.assert_close(value, values[0])


def test_a_sample_without_voxels_and_one_with_few_are_allowed() -> None:
    loss = build(3, 4, channels=5, num_nodes=12, num_neighbors=5)
    context = distinct((20, 0, 2))
    student = random(0, 22, 3).requires_grad_()
    value = loss(student, random(1, 22, 4), context)
    value.backward()
    assert value > 0 and student.grad.isfinite().all() and student.grad[20:].any()
    empty = loss(student[:0], student[:0], batch((0,)))
    empty.backward()
    assert empty == 0


def test_constant_features_have_a_finite_gradient() -> None:
    loss, student = build(3, 4, channels=5, num_nodes=12, num_neighbors=5), torch.zeros(20, 3, dtype=torch.float64)
    student.requires_grad_()
    loss(student, torch.zeros(20, 4, dtype=torch.float64), distinct((20,))).backward()
    assert student.grad.isfinite().all()


def test_half_precision_is_compared_in_float32() -> None:
    loss, context = PointDistiller(3, 4, 5, 12, 5), distinct((20,))
    student, teacher = (random(seed, 20, c).bfloat16() for seed, c in ((0, 3), (1, 4)))
    value = loss(student, teacher, context)
    assert value.dtype == torch.float32 and value == loss(student.float(), teacher.float(), context)


def test_memory_does_not_grow_with_the_edges() -> None:
    # Two layers on 1500 x 64 edges of 64 channels are 49 MB, and gradients and masks as much again.
    context, student, teacher = batch((3000,)), torch.randn(3000, 16).requires_grad_(), torch.randn(3000, 16)
    loss = PointDistiller(16, 16, 64, 1500, 64)
    with peak_memory(torch.device('cpu')) as before:
        PointDistiller(16, 16, 64, 20, 8)(student, teacher, context).backward()
    with peak_memory(torch.device('cpu')) as during:
        loss(student, teacher, context).backward()
    assert during['peak_mib'] - before['peak_mib'] < 60


def test_memory_does_not_grow_with_nodes_times_pillars() -> None:
    # All distances of 500 nodes to 100,000 pillars are 200 MB.
    context, student, teacher = batch((100_000,)), torch.randn(100_000, 4).requires_grad_(), torch.randn(100_000, 8)
    loss = PointDistiller(4, 8, 4, 500, 16)
    with peak_memory(torch.device('cpu')) as before:
        PointDistiller(4, 8, 4, 20, 8)(student[:3000], teacher[:3000], batch((3000,))).backward()
    with peak_memory(torch.device('cpu')) as during:
        loss(student, teacher, context).backward()
    assert during['peak_mib'] - before['peak_mib'] < 100


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(importance='point'), "'point': did you mean 'points'"),
        (dict(edge='cat'), 'unknown edge'),
        (dict(pool='maxx'), "did you mean 'max'"),
        (dict(teacher_branch='fixd'), "did you mean 'fixed'"),
        (dict(semantics='release'), "did you mean 'released'"),
        (dict(temperature=0.0), 'temperature must be above 0'),
        (dict(num_nodes=0), 'at least one'),
        (dict(importance='scores'), 'go together'),
        (dict(importance='feature', scores='bbox_head.conv_cls'), 'go together'),
    ],
)
def test_invalid_settings_are_errors(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PointDistiller(3, 4, **settings)


def test_features_that_do_not_fit_are_named() -> None:
    loss, context = build(3, 4, channels=5, num_nodes=12, num_neighbors=5), distinct((20,))
    rows, wide, maps = random(0, 20, 3), random(1, 20, 4), random(2, 2, 3, 4, 4)
    with pytest.raises(InputError, match="importance='feature'"):
        loss(maps, random(3, 2, 4, 4, 4), None)
    with pytest.raises(InputError, match='is for maps .* not for voxels'):
        build(3, 4, importance='scores', scores='head')(rows, wide, context)
    with pytest.raises(InputError, match="no 'voxels'"):
        loss(rows, wide, SimpleNamespace(inputs=maps, teacher_inputs=maps))
    with pytest.raises(InputError, match='tap the voxel encoders'):
        loss(rows[:19], wide, context)
    with pytest.raises(InputError, match='expected rows of voxels'):
        loss(rows, maps, context)
    context.teacher_inputs = distinct((19,)).inputs
    with pytest.raises(InputError, match='same data_preprocessor'):
        loss(rows, wide, context)
    places = distinct((20,)).inputs['voxels']['coors']
    with pytest.raises(InputError, match='same voxel size'):
        loss((rows, places), (wide, places + 1), None)
    with pytest.raises(InputError, match='the layers are made for 3 and 4 channels'):
        loss(wide, rows, distinct((20,)))


class Pillars(BaseModel):
    """A voxel encoder and a head on its output."""

    def __init__(self, width: int) -> None:
        super().__init__(BaseDataPreprocessor())
        self.voxel_encoder, self.head = nn.Linear(2, width), nn.Linear(width, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.head(self.voxel_encoder(inputs['voxels']['voxels']))
        return {'loss_head': scores.square().mean()} if mode == 'loss' else scores


def test_a_distiller_trains_its_layers_and_keeps_them_out_of_the_student() -> None:
    inputs = distinct((30, 20)).inputs
    inputs['voxels']['voxels'] = random(0, 50, 2).float()
    settings = dict(student_channels=3, teacher_channels=4, channels=5, num_nodes=12, num_neighbors=5)
    link = dict(student='voxel_encoder', teacher='voxel_encoder', loss=dict(type='PointDistiller', **settings))
    model = Distiller(Pillars(3), dict(graphs=link), teacher=Pillars(4))
    model(inputs, [], mode='loss')['distill.graphs.loss'].backward()
    encoder, layer = model.student.voxel_encoder, model.links['graphs'].loss.student_layer
    assert encoder.weight.grad.abs().sum() > 0 and layer.weight.grad.abs().sum() > 0
    assert {'graphs.loss.student_layer.scale', 'graphs.loss.teacher_layer.weight'} <= set(model.training_state())
    assert list(model.state_dict()) == list(Pillars(3).state_dict())
