"""Masked attention MIL against a loop in float64, and the properties a bag aggregator must have."""

import math

import pytest
import torch

from radclear.aggregation import (
    AggregationError,
    AttentionMIL,
    GatedAttentionMIL,
    MeanPoolMIL,
    MultiBranchMIL,
)

ONE_ATTENTION = (AttentionMIL, GatedAttentionMIL, MeanPoolMIL)
AGGREGATORS = (*ONE_ATTENTION, MultiBranchMIL)


def make(aggregator, *, d=12, classes=5, hidden=16):
    torch.manual_seed(3)
    return aggregator(d, classes, hidden_dim=hidden).eval()


def bags(lengths=(7, 3, 5), d=12, padding=0.0):
    """Bags of different lengths, padded with `padding`, and their mask."""
    torch.manual_seed(4)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    feats = torch.randn(len(lengths), max(lengths), d) * 2
    feats[~mask] = padding
    return feats, mask


def reference(model, feats, mask):
    """Logits and attention of one aggregator, one instance at a time, from its state dict alone."""
    w = {name: tensor.double() for name, tensor in model.state_dict().items()}

    def linear(name, x):
        return [
            sum(float(a) * float(b) for a, b in zip(row, x, strict=True)) + float(bias)
            for row, bias in zip(w[f"{name}.weight"], w[f"{name}.bias"], strict=True)
        ]

    def sigmoid(v):
        return 1 / (1 + math.exp(-v))

    logits, attention = [], []
    for bag, real in zip(feats.double().tolist(), mask.tolist(), strict=True):
        hidden = [[max(v, 0.0) for v in linear("instance.0", x)] for x, r in zip(bag, real, strict=True) if r]
        if isinstance(model, AttentionMIL):
            scores = [linear("scorer.2", [math.tanh(v) for v in linear("scorer.0", h)])[0] for h in hidden]
        elif isinstance(model, GatedAttentionMIL):
            scores = [
                linear(
                    "weight",
                    [
                        math.tanh(a) * sigmoid(b)
                        for a, b in zip(linear("value", h), linear("gate", h), strict=True)
                    ],
                )[0]
                for h in hidden
            ]
        else:
            scores = [0.0] * len(hidden)
        total = sum(math.exp(s) for s in scores)
        weights = [math.exp(s) / total for s in scores]
        pooled = [sum(a * h[i] for a, h in zip(weights, hidden, strict=True)) for i in range(len(hidden[0]))]
        mean = sum(pooled) / len(pooled)
        variance = sum((v - mean) ** 2 for v in pooled) / len(pooled)
        normed = [
            (v - mean) / math.sqrt(variance + 1e-5) * float(g) + float(b)
            for v, g, b in zip(pooled, w["head.0.weight"], w["head.0.bias"], strict=True)
        ]
        logits.append(linear("head.4", [v * sigmoid(v) for v in linear("head.1", normed)]))
        kept = iter(weights)
        attention.append([next(kept) if r else 0.0 for r in real])
    return torch.tensor(logits, dtype=torch.float64), torch.tensor(attention, dtype=torch.float64)


def test_size_is_that_of_the_publication():
    assert sum(p.numel() for p in AttentionMIL(768, 8).parameters()) == 331_273


@pytest.mark.parametrize("aggregator", ONE_ATTENTION)
def test_matches_a_loop_over_instances_in_float64(aggregator):
    model, (feats, mask) = make(aggregator), bags()
    logits, attention = reference(model, feats, mask)
    model = model.double()
    torch.testing.assert_close(model(feats.double(), mask), logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.attention, attention, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("padding", [0.0, 1e4, float("nan")])
def test_padding_changes_nothing(aggregator, padding):
    model, (feats, mask) = make(aggregator), bags(padding=padding)
    logits = model(feats, mask)
    attention = model.attention
    for i, length in enumerate(mask.sum(dim=1).tolist()):
        alone = model(feats[i : i + 1, :length])
        torch.testing.assert_close(logits[i : i + 1], alone, rtol=0, atol=1e-6)
        torch.testing.assert_close(attention[i : i + 1, :length], model.attention, rtol=0, atol=1e-6)
    assert (attention[~mask] == 0).all()
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_padding_of_any_value_leaves_the_gradients_alone(aggregator):
    gradients = []
    for padding in (0.0, float("nan")):
        model, (feats, mask) = make(aggregator), bags(padding=padding)
        model(feats, mask).sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_order_of_instances_does_not_matter(aggregator):
    model, (feats, _) = make(aggregator), bags(lengths=(40, 40))
    order = torch.randperm(40)
    logits = model(feats)
    attention = model.attention
    torch.testing.assert_close(model(feats[:, order]), logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.attention, attention[:, order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_no_mask_means_all_real(aggregator):
    model, (feats, _) = make(aggregator), bags(lengths=(6, 6))
    torch.testing.assert_close(model(feats), model(feats, torch.ones(2, 6, dtype=torch.bool)), rtol=0, atol=0)


def test_mean_pooling_attends_to_all_real_instances_alike():
    model, (feats, mask) = make(MeanPoolMIL), bags()
    model(feats, mask)
    torch.testing.assert_close(model.attention, mask / mask.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_script_equals_eager(aggregator, tmp_path):
    model, (feats, mask) = make(aggregator), bags()
    torch.jit.script(model).save(tmp_path / "model.ts")
    scripted = torch.jit.load(tmp_path / "model.ts")
    for arguments in ((feats, mask), (feats,), (feats[:1], None)):
        torch.testing.assert_close(scripted(*arguments), model(*arguments), rtol=0, atol=1e-6)
        torch.testing.assert_close(scripted.attention, model.attention, rtol=0, atol=1e-6)
    with pytest.raises(torch.jit.Error, match="fully masked"):
        scripted(feats, torch.zeros_like(mask))


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_autocast_keeps_softmax_and_sum_in_float32(aggregator):
    model, (feats, mask) = make(aggregator), bags(lengths=(300, 200))
    exact = model(feats, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(feats, mask)
    assert logits.dtype == model.attention.dtype == torch.float32
    torch.testing.assert_close(model.attention.sum(dim=1), torch.ones(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.05)


def test_attention_is_ready_to_copy_after_a_training_step():
    import copy

    model, (feats, mask) = make(AttentionMIL), bags()
    model.train()(feats, mask).sum().backward()
    assert not model.attention.requires_grad
    assert copy.deepcopy(model).attention.equal(model.attention)
    assert "attention" not in model.state_dict()


@pytest.mark.parametrize(
    ("feats", "mask", "message"),
    [
        (torch.zeros(2, 3, 12), torch.tensor([[True, True, True], [False, False, False]]), "fully masked"),
        (torch.zeros(2, 3, 11), None, r"\[2, 3, 11\].*expected \(studies, instances, 12\)"),
        (torch.zeros(3, 12), None, r"\[3, 12\]"),
        (torch.zeros(2, 0, 12), None, "no instances"),
        (torch.zeros(2, 3, 12), torch.ones(2, 4, dtype=torch.bool), r"\[2, 4\].*\[2, 3\]"),
        (torch.zeros(2, 3, 12), torch.ones(2, 3), "bool"),
    ],
)
def test_wrong_bags_are_named(feats, mask, message):
    with pytest.raises(AggregationError, match=message):
        make(AttentionMIL)(feats, mask)
