"""Losses of other papers on rows of voxels or points, against slow loops over numbers in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from voxel_batches import CLASSES, MINORITY, context_of, random_batch, rows

from perception3d.checks import InputError
from perception3d.distill.link import Link
from perception3d.distill.losses.gradient_weighted import GradientWeightedKD, channel_importance, channel_weighted_loss
from perception3d.distill.losses.intra_class import IntraClassKD
from perception3d.distill.losses.knowledge_adaptation import (
    KnowledgeAdaptationKD,
    adaptation_loss,
    reconstruction_loss,
)
from perception3d.distill.losses.logits import LogitKL
from perception3d.distill.losses.point_voxel import affinity_loss
from perception3d.distill.losses.row_channel_wise import RowChannelWiseKD, row_channel_wise_loss
from perception3d.distill.losses.supervoxel_pairs import SupervoxelPairKD
from perception3d.distill.losses.supervoxels import SupervoxelSampler, supervoxel_size
from perception3d.registry import MODELS
from perception3d.structures.point_labels import IGNORE

DRAWN = dict(classes=CLASSES, minority=MINORITY, draws=3, num_points=16, num_voxels=12)
ADAPTED = dict(type=KnowledgeAdaptationKD, student_channels=3, teacher_channels=5, channels=4, supervoxels=DRAWN)
LOSSES = {
    'channel-wise': dict(type=RowChannelWiseKD),
    'intra-class': dict(type=IntraClassKD),
    'pairs': dict(type=SupervoxelPairKD),
}


def count_of(batch, of):
    return len(batch.point_batch) if of == 'point' else len(batch.coords)


def samples(batch, of):
    return (batch.point_batch if of == 'point' else batch.coords[:, 0]).tolist()


def labels(batch, of):
    return (batch.point_labels if of == 'point' else batch.voxel_labels).tolist()


def softmax(values):
    top = max(values)
    raised = [math.exp(v - top) for v in values]
    return [r / sum(raised) for r in raised]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def mean_row(rows_):
    return [sum(column) / len(rows_) for column in zip(*rows_)]


def channel_wise(student, teacher, batch, of):
    terms = []
    for sample in sorted(set(samples(batch, of))):
        kept = [n for n, own in enumerate(samples(batch, of)) if own == sample]
        for c in range(len(student[0])):
            q, p = (softmax([side[n][c] / 4 for n in kept]) for side in (student, teacher))
            terms.append(16 * sum(a * math.log(a / b) for a, b in zip(p, q)) / len(student[0]))
    return sum(terms) / 2


def intra_class(student, teacher, batch, of):
    keys = [None if label == IGNORE else (own, label) for own, label in zip(samples(batch, of), labels(batch, of))]
    counted = [n for n, key in enumerate(keys) if key]
    gaps = []
    for n in counted:
        similar = [
            cosine(side[n], mean_row([side[m] for m in counted if keys[m] == keys[n]])) for side in (student, teacher)
        ]
        gaps.append((similar[0] - similar[1]) ** 2)
    return sum(gaps) / len(gaps)


def pairs(student, teacher, batch, of):
    size = supervoxel_size(batch.grid_shape)
    regions = {}
    for n in range(len(student)):
        cell = batch.coords[batch.point_to_voxel[n] if of == 'point' else n].tolist()
        regions.setdefault(cell[0], {}).setdefault(tuple(i // s for i, s in zip(cell[1:], size)), []).append(n)
    totals = []
    for blocks in regions.values():
        means = [[mean_row([side[n] for n in members]) for members in blocks.values()] for side in (student, teacher)]
        gaps = [(cosine(*ss) - cosine(*tt)) ** 2 for ss, tt in zip(pairs_of(means[0]), pairs_of(means[1]))]
        totals.append(sum(gaps) / len(gaps))
    return sum(totals) / len(totals)


def pairs_of(items):
    return [(a, b) for a in items for b in items]


SLOW = {'channel-wise': channel_wise, 'intra-class': intra_class, 'pairs': pairs}


@pytest.mark.parametrize('of', ['point', 'voxel'])
@pytest.mark.parametrize('name', SLOW)
def test_losses_are_those_of_slow_loops(name, of) -> None:
    batch = random_batch(3, counts=(40, 30), grid_shape=(4, 6, 2))
    number = count_of(batch, of)
    student, teacher = rows(0, number, 3, torch.float64), rows(1, number, 3, torch.float64)
    expected = SLOW[name](student.tolist(), teacher.tolist(), batch, of)
    loss = MODELS.build(dict(LOSSES[name], of=of))(student, teacher, context_of(batch))
    assert float(loss) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('name', LOSSES)
def test_gradients_are_those_of_finite_differences_and_of_the_student_alone(name) -> None:
    batch = random_batch(3, counts=(12, 8), grid_shape=(2, 3, 1))
    number = count_of(batch, 'voxel')
    loss = MODELS.build(LOSSES[name])
    student = rows(0, number, 3, torch.float64).requires_grad_()
    teacher = rows(1, number, 3, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, context_of(batch)), student, atol=1e-7)
    assert teacher.grad is None
    equal = loss(student, student.detach().clone(), context_of(batch))
    equal.backward()
    assert abs(equal.item()) < 1e-12 and student.grad.abs().max() < 1e-9


@pytest.mark.parametrize('name', ['intra-class', 'pairs'])
def test_relations_need_no_equal_channels_and_no_scale(name) -> None:
    batch = random_batch()
    number = count_of(batch, 'voxel')
    student, teacher = rows(0, number, 3), rows(1, number, 5)
    loss = MODELS.build(LOSSES[name])
    expected = loss(student, teacher, context_of(batch))
    assert expected > 0
    torch.testing.assert_close(loss(10 * student, 0.1 * teacher, context_of(batch)), expected, rtol=1e-4, atol=1e-6)


def test_logits_of_voxels_are_rows_of_the_general_loss() -> None:
    student, teacher = rows(0, 7, 4), rows(1, 7, 4)
    expected = 4 * F.kl_div(
        (student / 2).log_softmax(1), (teacher / 2).log_softmax(1), log_target=True, reduction='none'
    )
    torch.testing.assert_close(LogitKL(tau=2.0)(student, teacher), expected.sum(1).mean())


def test_a_sample_without_rows_does_not_count() -> None:
    student, teacher = rows(0, 7, 4), rows(1, 7, 4)
    expected = row_channel_wise_loss(student, teacher, [3, 4])
    torch.testing.assert_close(row_channel_wise_loss(student, teacher, [3, 0, 4]), expected)
    assert row_channel_wise_loss(student[:0], teacher[:0], [0]) == 0


def test_without_labelled_rows_there_is_no_variation() -> None:
    batch = random_batch()
    student = rows(0, count_of(batch, 'voxel'), 3).requires_grad_()
    unlabelled = replace(batch, voxel_labels=torch.full_like(batch.voxel_labels, IGNORE))
    loss = IntraClassKD()(student, rows(1, len(student), 3), context_of(unlabelled))
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_the_parts_of_knowledge_adaptation_by_hand() -> None:
    restored, features = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    code = torch.tensor([[3.0, -1.0]])
    assert float(reconstruction_loss(restored, features, code, 0.1)) == pytest.approx((1 + 4) / 2 + 0.1 * 2)
    # |a - c|^2 = 2 - 2 cos: rows with cosines 1 and 0.
    adapted, target = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[5.0, 0.0], [-3.0, 3.0]])
    assert float(adaptation_loss(adapted, target)) == pytest.approx((0 + 2) / 2)


def test_knowledge_adaptation_is_the_sum_of_its_parts() -> None:
    batch = random_batch()
    loss = MODELS.build(dict(ADAPTED, affinity_weight=0.5, sparsity=0.1)).double()
    number = count_of(batch, 'voxel')
    student, teacher = rows(0, number, 3, torch.float64), rows(1, number, 5, torch.float64)
    value = loss(student, teacher, context_of(batch))
    features = (teacher - teacher.mean(0)) / (teacher.var(0, unbiased=False) + 1e-6).sqrt()
    code = torch.relu(features @ loss.encoder[0].weight.T + loss.encoder[0].bias)
    restored = code @ loss.decoder.weight.T + loss.decoder.bias
    adapted = torch.relu(student @ loss.adapter[0].weight.T + loss.adapter[0].bias)
    expected = (restored - features).square().mean() + 0.1 * code.abs().mean()
    expected = expected + (F.normalize(adapted) - F.normalize(code)).square().sum(1).mean()
    drawn = SupervoxelSampler(**DRAWN).shared_draw(context_of(batch))
    torch.testing.assert_close(value, expected + 0.5 * affinity_loss(student, teacher, drawn.voxels))


def test_the_auto_encoder_is_trained_by_its_reconstruction_alone_and_first() -> None:
    batch = random_batch()
    loss = MODELS.build(dict(ADAPTED, autoencoder_steps=5))
    number = count_of(batch, 'voxel')
    student, teacher = rows(0, number, 3).requires_grad_(), rows(1, number, 5)
    link = Link('student', 'teacher', dict(ADAPTED, autoencoder_steps=5), match=1.0)
    assert [link.is_measured(step) for step in (4, 5)] == [False, True]
    gradients = []
    for step in (4, 5):
        loss.zero_grad()
        student.grad = None
        loss(student, teacher, context_of(batch, step=step)).backward()
        gradients.append([p.grad.clone() for p in (*loss.encoder.parameters(), *loss.decoder.parameters())])
        assert all(p.grad is not None and bool(p.grad.any()) == (step == 5) for p in loss.adapter.parameters())
        assert (student.grad is None) == (step == 4)
    assert all(torch.equal(*pair) and pair[0].any() for pair in zip(*gradients))


def test_channels_are_weighted_by_hand() -> None:
    student, teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2)
    # Weights 1 and 3 become 0.5 and 1.5.
    expected = (0.5 * (1 + 9) + 1.5 * (4 + 16)) / 4
    assert float(channel_weighted_loss(student, teacher, torch.tensor([1.0, 3.0]))) == pytest.approx(expected)
    assert float(channel_weighted_loss(student, teacher, torch.zeros(2))) == pytest.approx((1 + 9 + 4 + 16) / 4)


def test_the_weights_are_the_gradients_of_the_task_loss() -> None:
    batch = random_batch()
    number = count_of(batch, 'voxel')
    leaf = rows(0, number, 3, torch.float64).requires_grad_()
    features = leaf * 2
    factors = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    # Signs that alternate from row to row would cancel in a mean.
    signs = 1 - 2.0 * (torch.arange(number)[:, None] % 2)
    task_loss = (features * factors * signs).sum() / 7
    importance = channel_importance(task_loss, features)
    expected = factors.abs() / 7
    torch.testing.assert_close(importance, expected)
    # Constants for the gradient, and the graph of the task loss is still there.
    teacher = rows(1, number, 3, torch.float64)
    loss = GradientWeightedKD()(features, teacher, context_of(batch, task_loss=task_loss))
    standard = (teacher - teacher.mean(0)) / (teacher.var(0, unbiased=False) + 1e-6).sqrt()
    weights = expected / expected.mean()
    torch.testing.assert_close(loss, ((features - standard).square() * weights).mean())
    loss.backward(retain_graph=True)
    torch.testing.assert_close(leaf.grad, 2 * (features - standard) * weights / features.numel() * 2)
    task_loss.backward()


def test_importance_reaches_the_channels_of_the_teacher_through_the_adapter() -> None:
    batch = random_batch()
    number = count_of(batch, 'voxel')
    features = rows(0, number, 3).requires_grad_()
    loss = GradientWeightedKD(3, 2)
    factors = torch.tensor([1.0, 2.0, 0.0])
    teacher = rows(1, number, 2)
    value = loss(features, teacher, context_of(batch, task_loss=(features * factors).sum()))
    weights = loss.adapter.weight.abs() @ factors
    standard = (teacher - teacher.mean(0)) / teacher.std(0, unbiased=False)
    gaps = (features @ loss.adapter.weight.T + loss.adapter.bias - standard).square()
    torch.testing.assert_close(value, (gaps * weights / weights.mean()).mean(), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        plain = loss(features, teacher, context_of(batch, task_loss=(features * factors).sum()))
    # Without a gradient all channels of the student have the weight 1.
    uniform = loss.adapter.weight.abs().sum(1)
    torch.testing.assert_close(plain, (gaps * uniform / uniform.mean()).mean(), rtol=1e-4, atol=1e-5)


def test_features_apart_from_the_task_loss_are_an_error() -> None:
    batch = random_batch()
    features = rows(0, count_of(batch, 'voxel'), 3).requires_grad_()
    loss, teacher = GradientWeightedKD(), rows(1, len(features), 3)
    with pytest.raises(InputError, match='does not depend on these features: tap features in float32'):
        loss(features, teacher, context_of(batch, task_loss=rows(0, 2, 2).requires_grad_().sum()))
    with pytest.raises(InputError, match='has no task_loss'):
        loss(features, teacher, context_of(batch))


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(type=RowChannelWiseKD, of='voxels'), "did you mean 'voxel'"),
        (dict(type=RowChannelWiseKD, tau=0.0), 'tau must be above 0'),
        (dict(type=GradientWeightedKD, student_channels=3), 'go together'),
    ],
)
def test_invalid_settings_are_errors(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        MODELS.build(settings)


@pytest.mark.parametrize('settings', [ADAPTED, dict(type=GradientWeightedKD, student_channels=3, teacher_channels=5)])
def test_other_channels_than_the_layers_have_are_an_error(settings) -> None:
    batch = random_batch()
    features = rows(0, count_of(batch, 'voxel'), 4).requires_grad_()
    with pytest.raises(InputError, match='made for 3 and 5 channels .* have 4 and 5: set student_channels'):
        MODELS.build(settings)(features, rows(1, len(features), 5), context_of(batch, task_loss=features.sum()))
