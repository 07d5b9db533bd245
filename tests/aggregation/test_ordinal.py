"""Ordinal heads against the formula of the cumulative logit model, in float64."""

import math

import pytest
import torch

from radclear.aggregation import (
    AggregationError,
    AttentionMIL,
    CumulativeLogits,
    build_loss,
    class_probabilities,
    cumulative_logits,
    to_probabilities,
)


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def layer(first=-0.7, gaps=(0.3, -2.0)):
    made = CumulativeLogits(len(gaps) + 2).double()
    made.first.data = torch.tensor([first], dtype=torch.float64)
    made.gaps.data = torch.tensor(gaps, dtype=torch.float64)
    return made


def test_log_probabilities_are_differences_of_sigmoids():
    made = layer()
    cuts = [-0.7]
    for gap in (0.3, -2.0):
        cuts.append(cuts[-1] + math.log1p(math.exp(gap)) + 1e-3)
    assert made.cut_points().tolist() == pytest.approx(cuts, abs=1e-12)
    for score in (-2.5, 0.0, 0.4, 3.0):
        exceeding = [1.0, *(sigmoid(score - cut) for cut in cuts), 0.0]
        expected = [math.log(a - b) for a, b in zip(exceeding, exceeding[1:], strict=False)]
        found = made(torch.tensor([[score]], dtype=torch.float64))[0].tolist()
        assert found == pytest.approx(expected, abs=1e-10)


def test_all_classes_are_equally_likely_at_the_start():
    for n_classes in (2, 3, 4, 7):
        torch.testing.assert_close(
            CumulativeLogits(n_classes)(torch.zeros(1, 1)).exp(),
            torch.full((1, n_classes), 1 / n_classes),
            rtol=0,
            atol=1e-5,
        )


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_probabilities_sum_to_one_and_cumulative_ones_fall(scale):
    torch.manual_seed(0)
    score = scale * torch.randn(200, 1)
    logits = CumulativeLogits(5)(score)
    assert logits.isfinite().all()
    probabilities = to_probabilities(logits, "ordinal")
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(200), rtol=0, atol=1e-6)
    exceeding = cumulative_logits(logits).sigmoid()
    assert (exceeding.diff(dim=1) <= 1e-7).all()
    order = score.flatten().argsort()  # a higher score never makes a higher stage less likely
    assert (exceeding[order].diff(dim=0) >= -1e-6).all()


def test_cumulative_logits_are_found_again_from_any_softmax():
    made, score = layer(), torch.tensor([[-3.0], [0.2], [5.0]], dtype=torch.float64)
    torch.testing.assert_close(cumulative_logits(made(score)), score - made.cut_points(), rtol=0, atol=1e-9)
    logits = torch.randn(20, 4, dtype=torch.float64)
    tail = logits.softmax(dim=1).flip(1).cumsum(1).flip(1)[:, 1:]
    torch.testing.assert_close(cumulative_logits(logits), torch.logit(tail))
    torch.testing.assert_close(class_probabilities(tail), logits.softmax(dim=1))


def test_the_loss_is_the_negative_log_likelihood():
    made, score = layer(), torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
    logits, labels = made(score), torch.tensor([0, 3])
    cuts = made.cut_points().tolist()
    first, second = -math.log(1 - sigmoid(-1.0 - cuts[0])), -math.log(sigmoid(0.5 - cuts[2]))
    assert float(build_loss("ordinal")(logits, labels)) == pytest.approx((first + second) / 2)
    weighted = build_loss("ordinal", weights=[2.0, 1.0, 1.0, 0.5])(logits, labels)
    assert float(weighted) == pytest.approx((2 * first + 0.5 * second) / 2.5)


def test_an_ordinal_head_learns_an_order_and_scripts(tmp_path):
    torch.manual_seed(0)
    network = AttentionMIL(6, 4, hidden_dim=16, dropout=0.0, kind="ordinal")
    feats, labels = torch.randn(80, 5, 6), torch.arange(80) % 4
    feats[:, :, 0] += labels.unsqueeze(1)
    optimizer, loss = torch.optim.Adam(network.parameters(), 1e-2), build_loss("ordinal")
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(network(feats), labels)
        value.backward()
        optimizer.step()
    assert value < 0.9 and all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    logits = network.eval()(feats)
    expected_stage = (to_probabilities(logits, "ordinal") * torch.arange(4)).sum(dim=1)
    means = [float(expected_stage[labels == k].detach().mean()) for k in range(4)]
    assert means == sorted(means) and means[3] - means[0] > 1.5
    torch.testing.assert_close(torch.jit.script(network)(feats), logits, rtol=0, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(feats).dtype == torch.float32


def test_unknown_kinds_are_named():
    with pytest.raises(AggregationError, match="binary.*ordinal"):
        AttentionMIL(4, 2, kind="binary")
    with pytest.raises(ValueError, match="two or more"):
        CumulativeLogits(1)
