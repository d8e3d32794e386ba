"""The methods that PointDistiller is compared with, on numbers worked out by hand or against slow references."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.losses.attention_guided import AttentionGuidedKD, NonLocal
from perception3d.distill.losses.contrastive import ContrastiveKD
from perception3d.distill.losses.feature_overhaul import OverhaulKD
from perception3d.distill.losses.heatmap import HeatmapKD
from perception3d.distill.losses.pillar_response import PillarBoxKD

LEARNED = {
    'contrastive': (ContrastiveKD, dict(channels=4, num_nodes=7)),
    'attention-guided': (AttentionGuidedKD, dict(temperature=0.5)),
}


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(name: str, student: int = 3, teacher: int = 5, **more: object) -> nn.Module:
    torch.manual_seed(0)
    loss, settings = LEARNED[name]
    return loss(student, teacher, **settings, **more).double()


def test_contrast_by_hand() -> None:
    # Two places, embeddings by the identity: s = (1, 0), (0, 1), t = (1, 0), (0.6, 0.8) after length 1; tau = 0.5.
    loss = ContrastiveKD(2, 2, channels=2, num_nodes=2, temperature=0.5)
    with torch.no_grad():
        for layer in (loss.student_embedding, loss.teacher_embedding):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    student = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    teacher = torch.tensor([[[7.0, 0.6], [0.0, 0.8]]])
    # Products / tau are 2, 1.2 of s_1 and 0, 1.6 of s_2; each term is ln(1 + e^(other - own)).
    rows = (math.log1p(math.exp(-0.8)) + math.log1p(math.exp(-1.6))) / 2
    columns = (math.log1p(math.exp(-2.0)) + math.log1p(math.exp(-0.4))) / 2
    assert loss(student, teacher).item() == pytest.approx(rows + columns, rel=1e-5)


def test_contrast_is_between_the_strongest_places_of_all_samples() -> None:
    student, teacher = random(0, 2, 3, 4, 5), random(1, 2, 5, 4, 5)
    loss = build('contrastive')
    pairs = []
    for s, t in zip(student, teacher):
        best = t.flatten(1).amax(0).argsort(descending=True)[:7]
        pairs += [(s.flatten(1)[:, i], t.flatten(1)[:, i]) for i in best]
    embedded = [F.normalize(loss.student_embedding(s), dim=0) for s, _ in pairs]
    teacher_embedded = [F.normalize(loss.teacher_embedding(t), dim=0) for _, t in pairs]
    expected = 0.0
    for i in range(14):
        forward = torch.stack([embedded[i] @ t for t in teacher_embedded]) / 0.07
        backward = torch.stack([s @ teacher_embedded[i] for s in embedded]) / 0.07
        expected -= (forward.log_softmax(0)[i] + backward.log_softmax(0)[i]) / 14
    torch.testing.assert_close(loss(student, teacher), expected)


def test_overhaul_by_hand() -> None:
    # One channel of six values; the mean of the negative ones, the margin, is -2.
    teacher = torch.tensor([[[3.0, 1.0, -1.0, -3.0, -1.0, -3.0]]])
    student = torch.tensor([[[1.0, 2.0, 0.0, -5.0, -1.5, 0.0]]])
    # 4 and 1 where the teacher is active, 1 above -1, nothing far below, nothing below -1, 4 above the margin -2.
    assert OverhaulKD()(student, teacher).item() == pytest.approx(10 / 6)


def test_overhaul_after_a_relu_is_the_partial_distance() -> None:
    teacher, student = torch.tensor([[[2.0, 0.0, 0.0]]]), torch.tensor([[[1.0, -4.0, 3.0]]])
    assert OverhaulKD()(student, teacher).item() == pytest.approx((1 + 0 + 9) / 3)


def test_overhaul_has_a_margin_for_each_channel() -> None:
    teacher = torch.tensor([[[-1.0, -3.0], [-10.0, 5.0]]])
    # Where the student is far above, the distance is that to max(T, m): -1, -2 and -10, 5.
    student = torch.full((1, 2, 2), 6.0)
    assert OverhaulKD()(student, teacher).item() == pytest.approx((49 + 64 + 256 + 1) / 4)


def slow_non_local(block: NonLocal, x: Tensor) -> Tensor:
    """Every pair of positions, one after the other; batch norm over the result."""
    inner = block.embed.out_channels // 3
    size = x.shape[2] * x.shape[3]
    out = torch.zeros(len(x), inner, size, dtype=x.dtype)
    for b in range(len(x)):
        theta, phi, g = block.embed(x)[b].flatten(1).split(inner)
        for i in range(size):
            out[b, :, i] = sum((theta[:, i] @ phi[:, j]) * g[:, j] for j in range(size)) / size
    mixed = block.out[0](out.view(len(x), inner, *x.shape[2:]))
    norm = block.out[1]
    return x + F.batch_norm(mixed, None, None, norm.weight, norm.bias, training=True)


def test_non_local_blocks_relate_all_positions() -> None:
    block, x = NonLocal(4).double(), random(0, 2, 4, 3, 2)
    assert torch.equal(block(x), x)  # it begins as the identity
    nn.init.normal_(block.out[1].weight)
    torch.testing.assert_close(block(x), slow_non_local(block, x))


def test_attention_guided_is_the_sum_of_its_terms() -> None:
    student, teacher = random(0, 2, 3, 4, 5), random(1, 2, 5, 4, 5)
    loss = build('attention-guided')
    for block in (loss.student_relation, loss.teacher_relation):
        nn.init.normal_(block.out[1].weight)
    adapted = loss.feature_adapter(student)
    feature, channel, spatial, relation = 0.0, 0.0, 0.0, 0.0
    related = loss.relation_adapter(slow_non_local(loss.student_relation, student))
    wanted = slow_non_local(loss.teacher_relation, teacher)
    for b in range(2):
        places = [20 * (x[b].abs().mean(0).flatten() / 0.5).softmax(0) for x in (student, teacher)]
        channels = [5 * (x[b].abs().mean((1, 2)) / 0.5).softmax(0) for x in (adapted, teacher)]
        mask = (sum(channels) / 2)[:, None] * (sum(places) / 2)
        feature += ((adapted - teacher)[b].flatten(1).square() * mask).sum()
        channel += (loss.channel_adapter(student[b].mean((1, 2))) - teacher[b].mean((1, 2))).square().sum()
        mean = student[b].mean(0)[None, None]
        spatial += (loss.spatial_adapter(mean)[0, 0] - teacher[b].mean(0)).square().sum()
        relation += (related - wanted)[b].square().sum()
    expected = 7e-5 * feature.sqrt() + 4e-3 * (channel.sqrt() + spatial.sqrt()) + 7e-5 * relation.sqrt()
    torch.testing.assert_close(loss(student, teacher), expected)


@pytest.mark.parametrize('name', LEARNED)
def test_gradients_reach_the_student_and_the_layers_alone(name: str) -> None:
    student, teacher = random(0, 2, 3, 4, 5).requires_grad_(), random(1, 2, 5, 4, 5).requires_grad_()
    loss = build(name)
    loss(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    # What a block adds is scaled by 0 at first, so that its embeddings learn from the second step on.
    late = ('relation.embed', 'relation.out.0')
    for key, parameter in loss.named_parameters():
        assert parameter.grad.abs().sum() > 0 or any(part in key for part in late), key


@pytest.mark.parametrize('name', LEARNED)
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    loss, teacher = build(name), random(1, 2, 5, 2, 3)
    if name == 'attention-guided':
        # The masks have no gradient: make them independent of the student.
        loss.temperature = 1e9
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), random(0, 2, 3, 2, 3).requires_grad_(), atol=1e-7)


@pytest.mark.parametrize('name', LEARNED)
def test_a_teachers_map_of_another_size_is_resized_where_that_is_stated(name: str) -> None:
    student, teacher = random(0, 2, 3, 4, 5), random(1, 2, 5, 8, 10)
    resized = build(name, resample='bilinear')(student, teacher)
    torch.testing.assert_close(resized, build(name)(student, F.avg_pool2d(teacher, 2)))
    with pytest.raises(InputError, match="grids differ.*resample='bilinear'"):
        build(name)(student, teacher)


@pytest.mark.parametrize('name', LEARNED)
def test_other_channels_are_named(name: str) -> None:
    with pytest.raises(InputError, match='made for 3 and 5 channels'):
        build(name)(random(0, 2, 4, 4, 5), random(1, 2, 5, 4, 5))


def test_equal_networks_have_no_attention_guided_loss_with_equal_layers() -> None:
    loss, maps = build('attention-guided', 5, 5), random(0, 2, 5, 4, 6).requires_grad_()
    with torch.no_grad():
        for conv in (loss.feature_adapter, loss.relation_adapter):
            conv.weight.copy_(torch.eye(5)[:, :, None, None])
            conv.bias.zero_()
        loss.channel_adapter.weight.copy_(torch.eye(5))
        loss.spatial_adapter.weight.zero_()[:, :, 1, 1] = 1.0
        loss.channel_adapter.bias.zero_(), loss.spatial_adapter.bias.zero_()
    value = loss(maps, maps.detach())
    value.backward()
    assert value == 0 and maps.grad.isfinite().all()


def test_sparse_kd_of_an_anchor_head_is_heatmap_kd_of_its_class_map() -> None:
    # SparseKD's anchor head: a position counts with the best score of all its anchors and classes.
    student, teacher = random(0, 2, 6, 3, 4), random(1, 2, 6, 3, 4)
    error, total = 0.0, 0.0
    for b in range(2):
        for y in range(3):
            for x in range(4):
                scores = teacher[b, :, y, x].sigmoid()
                error += scores.max() * (student[b, :, y, x].sigmoid() - scores).square().sum()
                total += scores.max()
    torch.testing.assert_close(HeatmapKD()(student, teacher), error / total)


def test_sparse_kd_of_boxes_is_box_kd_with_an_l1_distance() -> None:
    # Two anchors of codes (x, yaw); the distance of angles is sin(a - b).
    student, teacher, logits = random(0, 1, 4, 2, 3), random(1, 1, 4, 2, 3), random(2, 1, 6, 2, 3)
    context = SimpleNamespace(teacher={'head[0]': logits})
    loss = PillarBoxKD('head[0]', slots=2, code_weights=(1.0, 1.0), score_thr=0.0, beta=1e-9, yaw_code=1)
    error, total = 0.0, 0.0
    for anchor in range(2):
        score = logits[0, 3 * anchor : 3 * anchor + 3].amax(0).sigmoid()
        gap = (student - teacher)[0, 2 * anchor : 2 * anchor + 2]
        error += (score * (gap[0].abs() + gap[1].sin().abs())).sum()
        total += score.sum()
    torch.testing.assert_close(loss(student, teacher, context), error / total, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    'settings, message',
    [
        ((ContrastiveKD, dict(temperature=0.0)), 'temperature must be above 0'),
        ((ContrastiveKD, dict(num_nodes=0)), 'num_nodes must be at least 1'),
        ((AttentionGuidedKD, dict(temperature=-1.0)), 'temperature must be above 0'),
    ],
)
def test_invalid_settings_are_errors(settings: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings[0](3, 5, **settings[1])
