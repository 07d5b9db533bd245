"""Attention that is told where to look, against closed forms."""

import math

import pytest
import torch

from radclear.aggregation import (
    AggregationError,
    AttentionMIL,
    EnsembleMIL,
    GatedAttentionMIL,
    MeanPoolMIL,
    SupervisedAttentionLoss,
    WithAttention,
    attention_term,
    build_loss,
)


@pytest.mark.parametrize("kind", [AttentionMIL, GatedAttentionMIL, MeanPoolMIL])
def test_logits_and_attention_are_those_of_the_aggregator(kind):
    aggregator = kind(8, 3, hidden_dim=16).eval()
    feats = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    logits, attention, evidence = WithAttention(aggregator)(feats, mask)
    assert torch.equal(logits, aggregator(feats, mask))
    assert torch.equal(attention.squeeze(2), aggregator.attention) and evidence is None
    assert not aggregator.attention.requires_grad


def test_the_term_is_the_mean_log_of_the_attention_on_annotated_slices():
    attention = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25], [0.2, 0.8, 0.0]])
    annotated = torch.tensor([[True, True, False], [False] * 3, [False, False, True]])
    expected = (-math.log(0.3) - math.log(1e-6)) / 2  # the second bag has no annotation
    attention, annotated = attention.unsqueeze(2), annotated.unsqueeze(2)
    assert attention_term(attention, annotated).item() == pytest.approx(expected, rel=1e-6)
    assert attention_term(attention, torch.zeros_like(annotated)).item() == 0


def test_the_gradient_moves_attention_to_the_annotated_slice():
    """On a bag of five alike instances but one, 30 steps of the term alone find that one."""
    torch.manual_seed(0)
    network = WithAttention(AttentionMIL(4, 2, hidden_dim=16))
    loss = SupervisedAttentionLoss(build_loss("multilabel"), weight=1.0)
    feats = torch.zeros(1, 5, 4)
    feats[0, 2] = 1.0
    annotated = torch.tensor([[False, False, True, False, False]]).unsqueeze(2)
    mask = torch.ones(1, 5, dtype=torch.bool)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    before = network(feats)[1][0, 2, 0].item()
    for _ in range(30):
        optimizer.zero_grad()
        loss(network(feats), (torch.ones(1, 2), annotated, mask)).backward()
        optimizer.step()
    assert network(feats)[1][0, 2, 0].item() > 0.9 > 0.5 > before


def test_what_cannot_be_supervised_is_refused():
    with pytest.raises(AggregationError, match="not an ensemble"):
        WithAttention(EnsembleMIL(AttentionMIL(4, 2), 2))
    with pytest.raises(AggregationError, match="attention_weight is 0"):
        SupervisedAttentionLoss(build_loss("multilabel"), weight=0)
