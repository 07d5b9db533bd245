"""Losses and probabilities against their formulas."""

import math

import pytest
import torch

from radclear.aggregation import (
    AggregationError,
    MulticlassLoss,
    MultilabelLoss,
    build_loss,
    to_probabilities,
)

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [-0.3, 0.2, 0.0]])


def test_multilabel_loss_weighs_positives_not_everything():
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    weight = [3.0, 1.0, 0.5]
    terms = []
    for logits, row in zip(LOGITS.tolist(), labels.tolist(), strict=True):
        for x, y, w in zip(logits, row, weight, strict=True):
            p = 1 / (1 + math.exp(-x))
            terms.append(-(w * y * math.log(p) + (1 - y) * math.log(1 - p)))
    assert float(MultilabelLoss(pos_weight=weight)(LOGITS, labels)) == pytest.approx(sum(terms) / 6, rel=1e-6)


def test_multiclass_loss_is_the_weighted_mean():
    labels = torch.tensor([2, 0])
    weight = [3.0, 1.0, 0.5]
    terms = [
        -math.log(math.exp(row[y]) / sum(map(math.exp, row)))
        for row, y in zip(LOGITS.tolist(), labels.tolist(), strict=True)
    ]
    expected = (0.5 * terms[0] + 3.0 * terms[1]) / 3.5
    assert float(MulticlassLoss(class_weight=weight)(LOGITS, labels)) == pytest.approx(expected, rel=1e-6)


def test_losses_compute_in_float32_and_pass_gradients():
    logits = LOGITS.bfloat16().requires_grad_()
    loss = build_loss("multilabel")(logits, torch.ones(2, 3))
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.abs().sum() > 0


def test_probabilities():
    torch.testing.assert_close(to_probabilities(LOGITS, "multilabel"), 1 / (1 + torch.exp(-LOGITS)))
    softmax = to_probabilities(LOGITS, "multiclass")
    torch.testing.assert_close(softmax, LOGITS.exp() / LOGITS.exp().sum(dim=1, keepdim=True))
    assert to_probabilities(LOGITS.half(), "multiclass").dtype == torch.float32
    assert to_probabilities(LOGITS.double(), "multilabel").dtype == torch.float64


@pytest.mark.parametrize(
    "function", [lambda: to_probabilities(LOGITS, "binary"), lambda: build_loss("binary")]
)
def test_unknown_kind_is_named(function):
    with pytest.raises(AggregationError, match="expected one of multilabel, multiclass"):
        function()


def test_labels_of_the_other_kind_are_refused():
    with pytest.raises(AggregationError, match=r"\[2, 3\].*\[2\].*column of 0 and 1"):
        MultilabelLoss()(LOGITS, torch.tensor([1, 2]))
    with pytest.raises(AggregationError, match="one class index per study"):
        MulticlassLoss()(LOGITS, torch.ones(2, 3))
    with pytest.raises(AggregationError, match="finite"):
        MultilabelLoss(pos_weight=[1.0, float("inf")])
