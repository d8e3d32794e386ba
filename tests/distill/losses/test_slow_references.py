"""General and BEV losses against slow loops over numbers in float64, on random shapes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from perception3d.distill.losses.attention_transfer import AttentionTransfer
from perception3d.distill.losses.balance import BalanceDivergence
from perception3d.distill.losses.channel_wise import ChannelWiseKD
from perception3d.distill.losses.fitnets import FeatureMSE
from perception3d.distill.losses.fused_feature import FusedFeatureKD
from perception3d.distill.losses.heatmap import HeatmapKD
from perception3d.distill.losses.logits import LogitKL
from perception3d.distill.losses.pillar_response import PillarClassKD, PillarSaliencyKD
from perception3d.distill.losses.similarity import SimilarityPreserving

SIZES = [(2, 3, 4, 5), (3, 2, 1, 4), (1, 5, 3, 3)]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(values):
    top = max(values)
    raised = [math.exp(v - top) for v in values]
    return [r / sum(raised) for r in raised]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


def places(array):
    """Every (sample, row, column) of maps (B, C, H, W)."""
    batch, _, height, width = array.shape
    return [(b, y, x) for b in range(batch) for y in range(height) for x in range(width)]


def pillar_scores(logits):
    return {(b, y, x): max(sigmoid(z) for z in logits[b, :, y, x]) for b, y, x in places(logits)}


def feature_mse(student, teacher, heads):
    total = sum((float(s) - float(t)) ** 2 for s, t in zip(student.flat, teacher.flat))
    return total / student.size


def attention_transfer(student, teacher, heads):
    total = 0.0
    for b in range(len(student)):
        maps = []
        for side in (student, teacher):
            strength = [sum(abs(v) ** 3 for v in side[b, :, y, x]) for _, y, x in places(side[b : b + 1])]
            length = math.sqrt(sum(v * v for v in strength))
            maps.append([v / length for v in strength])
        total += sum((s - t) ** 2 for s, t in zip(*maps))
    return total / (len(student) * student.shape[2] * student.shape[3])


def channel_wise(student, teacher, heads):
    batch, channels = student.shape[:2]
    total = 0.0
    for b in range(batch):
        for c in range(channels):
            student_p, teacher_p = (softmax([v / 2 for v in side[b, c].flat]) for side in (student, teacher))
            total += 4 * divergence(teacher_p, student_p)
    return total / batch / channels


def similarity(student, teacher, heads):
    batch, grams = len(student), []
    for side in (student, teacher):
        rows = []
        for i in range(batch):
            row = [sum(a * b for a, b in zip(side[i].flat, side[j].flat)) for j in range(batch)]
            length = math.sqrt(sum(v * v for v in row))
            rows.append([v / length for v in row])
        grams.append(rows)
    return sum((grams[0][i][j] - grams[1][i][j]) ** 2 for i in range(batch) for j in range(batch)) / batch**2


def logit_kl(student, teacher, heads):
    terms = []
    for b, y, x in places(student):
        student_p, teacher_p = (softmax([v / 3 for v in side[b, :, y, x]]) for side in (student, teacher))
        terms.append(9 * divergence(teacher_p, student_p))
    return sum(terms) / len(terms)


def balance(student, teacher, heads):
    terms = []
    for b, y, x in places(student):
        student_p, teacher_p = (softmax([v / 3 for v in side[b, :, y, x]]) for side in (student, teacher))
        reverse = [softmax([v / 2 for v in side[b, :, y, x]]) for side in (student, teacher)]
        terms.append(9 * divergence(teacher_p, student_p) + 0.5 * 4 * divergence(*reverse))
    return sum(terms) / len(terms)


def heatmap(student, teacher, heads):
    error = total = 0.0
    for b, y, x in places(student):
        scores = [sigmoid(v) for v in teacher[b, :, y, x]]
        mask = max(scores) if max(scores) >= 0.6 else 0.0
        error += mask * sum((sigmoid(s) - t) ** 2 for s, t in zip(student[b, :, y, x], scores))
        total += mask
    return error / total


def fused_feature(student, teacher, heads):
    batch, channels, height, width = student.shape
    statistics = []
    for c in range(channels):
        values = list(teacher[:, c].flat)
        mean = sum(values) / len(values)
        statistics.append((mean, math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + 1e-6)))
    scores, total = pillar_scores(heads), 0.0
    for b in range(batch):
        own = [scores[b, y, x] ** 2 for y in range(height) for x in range(width)]
        for _, y, x in places(student[b : b + 1]):
            gaps = [
                (student[b, c, y, x] - (teacher[b, c, y, x] - mean) / std) ** 2
                for c, (mean, std) in enumerate(statistics)
            ]
            total += scores[b, y, x] ** 2 / (sum(own) / len(own)) * sum(gaps) / channels
    return total / (batch * height * width)


def pillar_saliency(student, teacher, heads):
    total = 0.0
    for b in range(len(student)):
        student_p, teacher_p = (
            softmax([max(side[b, :, y, x]) / 4 for _, y, x in places(side[b : b + 1])]) for side in (student, teacher)
        )
        total += 16 * divergence(teacher_p, student_p)
    return total / len(student)


def pillar_class(student, teacher, heads):
    weights, error = pillar_scores(teacher), 0.0
    for b, y, x in places(student):
        for c in range(student.shape[1]):
            student_p, teacher_p = sigmoid(student[b, c, y, x]), sigmoid(teacher[b, c, y, x])
            entropy = -teacher_p * math.log(student_p) - (1 - teacher_p) * math.log(1 - student_p)
            error += weights[b, y, x] ** 0.5 * abs(teacher_p - student_p) ** 1.5 * entropy
    return error / sum(w**0.5 for w in weights.values())


CASES = {
    'features': (FeatureMSE(), feature_mse),
    'attention': (AttentionTransfer(p=3.0), attention_transfer),
    'channel-wise': (ChannelWiseKD(tau=2.0), channel_wise),
    'similarity': (SimilarityPreserving(), similarity),
    'logits': (LogitKL(tau=3.0), logit_kl),
    'balance': (BalanceDivergence(tau=3.0, reverse_tau=2.0, reverse_weight=0.5), balance),
    'heatmap': (HeatmapKD(score_thr=0.6), heatmap),
    'fused': (FusedFeatureKD('head', gamma=2.0), fused_feature),
    'saliency': (PillarSaliencyKD(tau=4.0), pillar_saliency),
    'classes': (PillarClassKD(beta=1.5, gamma=0.5), pillar_class),
}


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('name', CASES)
@pytest.mark.filterwarnings('ignore:a loss that compares the samples')
def test_a_loss_is_its_formula(name, size):
    loss, formula = CASES[name]
    generator = np.random.default_rng(sum(size))
    student, teacher, heads = (generator.normal(size=size) * 2 for _ in range(3))
    context = SimpleNamespace(teacher=dict(head=torch.from_numpy(heads)))
    value = loss(torch.from_numpy(student), torch.from_numpy(teacher), context)
    assert value.dtype == torch.float64
    assert float(value) == pytest.approx(formula(student, teacher, heads), rel=1e-9, abs=1e-12)
