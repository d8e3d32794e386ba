"""The plain functions of the losses: on numbers worked out by hand, and equal to their modules to the last digit."""

from __future__ import annotations

import ast
import importlib
import math
from pathlib import Path

import pytest
import torch
from general_losses import FEATURES, FREE_OF_CHANNELS, LOGITS
from torch import Tensor

from perception3d.checks import InputError
from perception3d.distill import losses
from perception3d.distill.losses.attention_update import attention_update_loss
from perception3d.distill.losses.contrastive import contrastive_loss
from perception3d.distill.losses.frames import FrameLayout
from perception3d.distill.losses.fused_feature import fused_feature_loss
from perception3d.distill.losses.fusion_increment import EncoderOutputs, fusion_increment_loss
from perception3d.distill.losses.heatmap import heatmap_loss
from perception3d.distill.losses.local_graph import LocalGraph
from perception3d.distill.losses.pillar_response import pillar_box_loss
from perception3d.distill.losses.point_distiller import point_distiller_loss, reweighting
from perception3d.distill.losses.temporal_relation import temporal_relation_loss

FILES = [path for path in Path(losses.__file__).parent.glob('*.py') if 'register_module' in path.read_text()]
GENERAL = FEATURES | LOGITS | FREE_OF_CHANNELS


def functions(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.endswith('_loss')
    }


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_module_calls_a_plain_function_of_its_file(path: Path) -> None:
    names = functions(path)
    modules = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and 'register_module' in ast.dump(ast.Module(node.decorator_list, []))
    ]
    assert modules
    for module in modules:
        called = {node.func.id for node in ast.walk(module) if isinstance(node, ast.Call) and hasattr(node.func, 'id')}
        assert called & names, module.name


@pytest.mark.parametrize('name', GENERAL)
def test_general_modules_are_their_functions(name: str) -> None:
    settings = dict(GENERAL[name])
    module = settings.pop('type')
    home = importlib.import_module(module.__module__)
    (function,) = functions(Path(home.__file__))
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 4, 5, 6, generator=generator) for _ in range(2))
    gradients = []
    for loss in (module(**settings), lambda s, t: getattr(home, function)(s, t, **settings)):
        leaf = student.clone().requires_grad_()
        loss(leaf, teacher).backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients) and gradients[0].any()


def test_updates_of_queries_by_hand() -> None:
    student, teacher = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]), torch.tensor([[[3.0, 0.0], [1.0, 0.0]]])
    assert float(attention_update_loss(student, teacher)) == pytest.approx(0.5)  # cosines 1 and 0
    assert float(attention_update_loss(student, teacher, torch.tensor([[0.5, 1.5]]))) == pytest.approx(0.75)


def test_contrast_of_embeddings_by_hand() -> None:
    # Rows are divided by their length: s = (1, 0), (0, 1) and t = (1, 0), (0, 1); products / tau are 2 and 0.
    student, teacher = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    loss = contrastive_loss(student, teacher, temperature=0.5)
    assert float(loss) == pytest.approx(2 * math.log1p(math.exp(-2.0)))


def test_temporal_relations_by_hand() -> None:
    # One pillar. Student: two frames with cosine 0; teacher: three frames, of which the newest two have cosine 1.
    student = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 4, 1, 1)
    teacher = torch.tensor([1.0, 0.0, 2.0, 0.0, 9.0, 9.0]).view(1, 6, 1, 1)
    layouts = FrameLayout(stack=1, frames=2), FrameLayout(stack=1, frames=3)
    assert float(temporal_relation_loss(student, teacher, layouts)) == pytest.approx(2 / 4)
    assert float(temporal_relation_loss(student, teacher, layouts, torch.full((1, 1, 1, 1), 3.0))) == pytest.approx(1.5)
    with pytest.raises(InputError, match='6 channels are not a multiple of .* 1 x frames 4'):
        temporal_relation_loss(student, teacher, (layouts[0], FrameLayout(1, 4)))


def test_the_fusion_increment_is_the_fused_loss_of_differences() -> None:
    maps = [torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    weights = torch.rand(2, 1, 4, 5)
    loss = fusion_increment_loss(EncoderOutputs(*maps[:2]), EncoderOutputs(*maps[2:]), lambda x: 2 * x, weights)
    assert torch.equal(loss, fused_feature_loss(2 * (maps[0] - maps[1]), maps[2] - maps[3], weights))


def test_box_codes_by_hand() -> None:
    # Two slots of two codes, the second an angle: gaps (0.5, pi) and (2, 0); smooth L1 0.125 + 0 and 1.5.
    student = torch.tensor([0.5, math.pi, 2.0, 0.0]).view(1, 4, 1, 1)
    weights = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    loss = pillar_box_loss(student, torch.zeros(1, 4, 1, 1), weights, torch.tensor([1.0, 1.0]), yaw_code=1)
    assert float(loss) == pytest.approx((0.125 + 3 * 1.5) / 4, abs=1e-6)


def edges(rows: list[list[float]], nodes: list[list[float]]) -> tuple[Tensor, Tensor]:
    return torch.tensor(rows), torch.tensor(nodes)


def test_local_graphs_by_hand() -> None:
    # One node with two neighbours and one channel: student edges 1 and 3, teacher edges relu(-1) = 0 and 1.
    graph = LocalGraph(torch.tensor([0]), torch.tensor([[0, 1]]), torch.tensor([1.0]))
    student, teacher = [edges([[0.0], [2.0]], [[1.0]])], [edges([[-2.0], [0.0]], [[1.0]])]
    weights = [torch.tensor([0.5])]
    assert float(point_distiller_loss(student, teacher, [graph], weights)) == pytest.approx(0.5 * (1 + 4))
    assert float(point_distiller_loss(student, teacher, [graph], weights, pool='max')) == pytest.approx(0.5 * 4)
    with pytest.raises(InputError, match="did you mean 'max'"):
        point_distiller_loss(student, teacher, [graph], weights, pool='maxx')


def test_reweighting_is_graded_at_any_scale() -> None:
    expected = torch.tensor([32.0, 1.0, 7.0]) / 40
    for scale in (1.0, 1e-4):
        torch.testing.assert_close(reweighting(scale * 40 * expected), expected)
    torch.testing.assert_close(reweighting(torch.tensor([9.0, 1.0]), temperature=2.0), torch.tensor([0.75, 0.25]))


def test_settings_of_functions_are_checked() -> None:
    with pytest.raises(InputError, match="did you mean 'soft'"):
        heatmap_loss(torch.zeros(1, 2), torch.zeros(1, 2), mask='sofft')
