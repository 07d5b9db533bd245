"""Labels that are learned beside the classes, against closed forms."""

import math

import pytest
import torch
from torch import nn

from radclear.aggregation import (
    AggregationError,
    AttentionMIL,
    AuxiliaryLoss,
    EnsembleMIL,
    MultiBranchMIL,
    SupervisedAttentionLoss,
    WithAttention,
    WithAuxiliary,
    auxiliary_term,
    build_loss,
)

MASK = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])


def bags() -> torch.Tensor:
    return torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


def aggregators() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "attention": AttentionMIL(8, 3, hidden_dim=16),
        "ordinal": AttentionMIL(8, 3, hidden_dim=16, kind="ordinal"),
        "branches": MultiBranchMIL(8, 3, n_branches=4, n_windows=2, hidden_dim=16, reduced_dim=5),
    }


@pytest.mark.parametrize("name", ["attention", "ordinal", "branches"])
def test_the_labels_are_read_from_what_the_last_layer_reads(name):
    """Layers with the last layer's own weights give the last layer's own values."""
    aggregator = aggregators()[name].eval()
    last = [layer for layer in aggregator.head if isinstance(layer, nn.Linear)][-1]
    network = WithAuxiliary(aggregator, aggregator, [last.out_features, 2])
    network.layers[0].load_state_dict(last.state_dict())
    seen = []
    last.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    output, (first, second) = network(bags(), mask=MASK)
    assert torch.equal(first, seen[0]) and second.shape == (2, 2)
    assert torch.equal(output, aggregator(bags(), MASK))


def test_within_supervised_attention_all_outputs_are_there():
    aggregator = aggregators()["branches"].eval()
    within = WithAttention(aggregator)
    output, labels = WithAuxiliary(within, aggregator, [4, 3])(bags(), mask=MASK)
    for found, expected in zip(output, within(bags(), MASK), strict=True):
        assert torch.equal(found, expected)
    assert [tuple(one.shape) for one in labels] == [(2, 4), (2, 3)]


def test_nothing_of_it_stays_with_the_aggregator():
    """The head that answers is the network without auxiliary labels, also after an error on the way."""
    aggregator = aggregators()["attention"]
    names = list(aggregator.state_dict())
    network = WithAuxiliary(aggregator, aggregator, [2])
    network(bags(), mask=MASK)
    with pytest.raises(AggregationError):
        network(bags(), mask=MASK[:1])
    assert list(aggregator.state_dict()) == names
    assert not any(module._forward_pre_hooks for module in aggregator.modules())


def test_each_parameter_is_trained_once():
    aggregator = aggregators()["branches"]
    network = WithAuxiliary(WithAttention(aggregator), aggregator, [4])
    own, extra = list(aggregator.parameters()), list(network.layers.parameters())
    assert {id(p) for p in network.parameters()} == {id(p) for p in own + extra}
    assert len(list(network.parameters())) == len(own) + len(extra)


def test_the_term_is_the_mean_log_of_the_values_that_are_known():
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, -2.0], [math.log(4.0), 0.0]])
    values = torch.tensor([1, -1, 1])
    expected = (-math.log(0.75) - math.log(0.2)) / 2
    assert auxiliary_term(logits, values).item() == pytest.approx(expected, rel=1e-6)
    nothing = auxiliary_term(logits.requires_grad_(), torch.full((3,), -1))
    assert nothing.item() == 0
    nothing.backward()
    assert torch.equal(logits.grad, torch.zeros(3, 2))


def test_the_loss_adds_the_weighted_sum_of_the_terms():
    own = build_loss("multiclass")
    logits, label = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([1, 1])
    labels = (torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    values = torch.tensor([[0, 2], [1, -1]])
    found = AuxiliaryLoss(own, weight=0.5)((logits, labels), (label, values))
    assert found.item() == pytest.approx(own(logits, label).item() + 0.5 * (math.log(2) + math.log(3)))


def test_the_labels_are_learned_and_shape_the_vector():
    """Studies that differ in one number and not in their class: the terms alone have a gradient there."""
    torch.manual_seed(0)
    aggregator = AttentionMIL(8, 2, hidden_dim=16, dropout=0.0)
    network = WithAuxiliary(WithAttention(aggregator), aggregator, [2])
    own = SupervisedAttentionLoss(build_loss("multiclass"), weight=1.0)
    loss = AuxiliaryLoss(own, weight=1.0)
    feats = torch.zeros(2, 4, 8)
    feats[1, 2, 0] = 1.0
    mask, annotated = torch.ones(2, 4, dtype=torch.bool), torch.zeros(2, 4, 1, dtype=torch.bool)
    target = (torch.tensor([0, 0]), annotated, mask), torch.tensor([[0], [1]])
    output = network(feats, mask=mask)
    weight = aggregator.instance[0].weight
    terms = loss(output, target) - own(output[0], target[0])
    (gradient,) = torch.autograd.grad(terms, weight)
    assert gradient[:, 0].abs().max() > 1e-4 and torch.equal(gradient[:, 1:], torch.zeros(16, 7))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss(network(feats, mask=mask), target).backward()
        optimizer.step()
    _, (logits,) = network(feats, mask=mask)
    assert logits.argmax(dim=1).tolist() == [0, 1]


def test_what_cannot_learn_them_is_refused():
    ensemble = EnsembleMIL(AttentionMIL(4, 2), 2)
    with pytest.raises(AggregationError, match="EnsembleMIL cannot learn auxiliary labels"):
        WithAuxiliary(ensemble, ensemble, [2])
    with pytest.raises(AggregationError, match="auxiliary_weight is 0"):
        AuxiliaryLoss(build_loss("multiclass"), weight=0)
