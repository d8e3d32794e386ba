"""Losses on rows: against plain definitions, without rows, and with ignored ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.lidar_seg.losses import (
    LovaszSoftmax,
    OhemCrossEntropy,
    WeightedCrossEntropy,
    cross_entropy,
    lovasz_softmax,
    ohem_cross_entropy,
)
from perception3d.structures.point_labels import IGNORE

LABELS = torch.tensor([0, 2, IGNORE, 1, 1, 2, IGNORE, 0, 0, 2])


def _logits():
    return torch.randn(10, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()


def test_cross_entropy_leaves_ignored_rows_out():
    logits, weights = _logits(), torch.tensor([1.0, 2.0, 0.5, 3.0])
    assert torch.allclose(cross_entropy(logits, LABELS), F.cross_entropy(logits, LABELS, ignore_index=IGNORE))
    wanted = F.cross_entropy(logits, LABELS, weights, ignore_index=IGNORE)
    assert torch.allclose(WeightedCrossEntropy(weights.tolist())(logits, LABELS), wanted)
    cross_entropy(logits, LABELS).backward()
    assert torch.equal(logits.grad.abs().sum(1) == 0, LABELS == IGNORE)


def test_ohem_keeps_the_hard_rows():
    logits = _logits()
    kept = LABELS != IGNORE
    plain = F.cross_entropy(logits[kept], LABELS[kept], reduction='none')
    probability = logits[kept].softmax(1).gather(1, LABELS[kept, None])[:, 0]
    hard = probability < 0.3
    assert 0 < int(hard.sum()) < len(plain)
    assert torch.allclose(ohem_cross_entropy(logits, LABELS, 0.3, 0.0), plain[hard].mean())
    # At least this share, the hardest.
    assert torch.allclose(ohem_cross_entropy(logits, LABELS, 1e-6, 0.5), plain.topk(5).values.mean())
    assert torch.allclose(OhemCrossEntropy(0.3, 0.0, [2.0] * 4)(logits, LABELS), plain[hard].mean())


def _lovasz_by_sets(logits, labels):
    """Sum over the sorted errors of error times increase of the Jaccard loss of the set of the worst rows."""
    rows = labels != IGNORE
    probabilities, labels = logits[rows].softmax(1), labels[rows]
    values = []
    for c in labels.unique().tolist():
        truth = {i for i, label in enumerate(labels.tolist()) if label == c}
        errors = [(1 - p if i in truth else p) for i, p in enumerate(probabilities[:, c].tolist())]
        total, before, wrong = 0.0, 0.0, set()
        for i in sorted(range(len(errors)), key=lambda i: -errors[i]):
            wrong.add(i)
            loss = 1 - len(truth - wrong) / len(truth | wrong)
            total, before = total + errors[i] * (loss - before), loss
        values.append(total)
    return sum(values) / len(values)


def test_lovasz_is_the_extension_of_the_jaccard_loss():
    logits = _logits().detach()
    assert float(lovasz_softmax(logits, LABELS)) == pytest.approx(_lovasz_by_sets(logits, LABELS), abs=1e-6)
    twin = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: lovasz_softmax(x.double(), LABELS), twin, atol=1e-3, eps=1e-3)
    # Perfect predictions have no loss; a class that is absent does not count.
    sure = 50.0 * F.one_hot(LABELS.clamp(max=3), 4).float()
    assert float(LovaszSoftmax()(sure, LABELS)) < 1e-6


@pytest.mark.parametrize('loss', [cross_entropy, ohem_cross_entropy, lovasz_softmax])
def test_without_labelled_rows_the_loss_is_zero(loss):
    for count in (3, 0):
        logits = torch.randn(count, 4, requires_grad=True)
        value = loss(logits, torch.full((count,), IGNORE))
        value.backward()
        assert value.item() == 0 and logits.grad.abs().sum().item() == 0


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InputError, match='class_weights'):
        WeightedCrossEntropy([1, -1])
    with pytest.raises(InputError, match='numbers from 0 to 1'):
        OhemCrossEntropy(threshold=70)
