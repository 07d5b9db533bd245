"""One attention per finding against plain arithmetic in float64, and what boxes teach it."""

import numpy as np
import pytest
import torch

from radclear.aggregation import (
    AggregationError,
    EnsembleMIL,
    MultiBranchMIL,
    SupervisedAttentionLoss,
    WithAttention,
    build_loss,
    evidence_term,
    without_class_weights,
)

D, C, K = 6, 3, 2


def make(n_branches=K, **options):
    torch.manual_seed(0)
    return MultiBranchMIL(D, C, n_branches=n_branches, hidden_dim=8, reduced_dim=4, **options).eval()


def bags(seed=1):
    return torch.randn(2, 5, D, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize("n_branches", [K, C])
def test_matches_plain_arithmetic_in_float64(n_branches):
    model, feats = make(n_branches).double(), bags().double()
    w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def gelu(x):
        return x * 0.5 * (1 + torch.erf(torch.from_numpy(x) / 2**0.5).numpy())

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    logits, attention = [], []
    for bag in feats.numpy():
        hidden = gelu(linear("instance.1", bag))
        scores = linear("scorer.2", np.tanh(linear("scorer.0", hidden)))
        evidence = linear("finding", hidden)
        study, given, found, looked = [], [], [], []
        for k in range(n_branches):
            a = np.exp(scores[:, k]) / np.exp(scores[:, k]).sum()
            pooled = sum(a[i] * hidden[i] for i in range(len(bag)))
            normed = (pooled - pooled.mean()) / np.sqrt(pooled.var() + 1e-5)
            normed = normed * w["reduce.0.weight"] + w["reduce.0.bias"]
            e = sum(a[i] * evidence[i, k] for i in range(len(bag)))
            study += [*gelu(linear("reduce.2", normed)), e]
            given.append(e)
            found.append(sigmoid(e))
            looked.append(a)
        logits.append(linear("head.1", np.array(study)) + (np.array(given) if n_branches == C else 0))
        attention.append(sum(f * a for f, a in zip(found, looked, strict=True)) / sum(found))
    np.testing.assert_allclose(model(feats).detach(), logits, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(model.attention, attention, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", ["multilabel", "ordinal"])
def test_windows_taken_together_are_one_wide_instance(kind):
    """Against a head for slices of width W·d with the same weights, which knows nothing of windows."""
    torch.manual_seed(0)
    together = MultiBranchMIL(D, C, n_branches=K, n_windows=2, hidden_dim=8, reduced_dim=4, kind=kind).eval()
    wide = MultiBranchMIL(2 * D, C, n_branches=K, hidden_dim=8, reduced_dim=4, kind=kind).eval()
    wide.load_state_dict(together.state_dict())
    feats = torch.randn(2, 10, D, generator=torch.Generator().manual_seed(1))
    side_by_side = torch.stack([torch.cat([feats[:, 2 * z], feats[:, 2 * z + 1]], 1) for z in range(5)], 1)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    instances = mask.repeat_interleave(2, dim=1)
    logits, attention, evidence = wide.branch(side_by_side, mask)
    expected = logits, attention.repeat_interleave(2, dim=1) / 2, evidence.repeat_interleave(2, dim=1)
    torch.testing.assert_close(together.branch(feats, instances), expected)
    torch.testing.assert_close(together(feats, instances), wide(side_by_side, mask))
    torch.testing.assert_close(together.attention, wide.attention.repeat_interleave(2, dim=1) / 2)
    torch.testing.assert_close(together.attention.sum(1), torch.ones(2))


def test_windows_taken_together_in_torchscript_and_in_any_order_of_slices(tmp_path):
    torch.manual_seed(0)
    model = MultiBranchMIL(D, C, n_windows=2, hidden_dim=8).eval()
    feats, order = torch.randn(2, 12, D), torch.randperm(6)
    mask = (torch.arange(6) < torch.tensor([[6], [4]])).repeat_interleave(2, dim=1)
    torch.jit.script(model).save(tmp_path / "model.ts")
    scripted = torch.jit.load(tmp_path / "model.ts")
    torch.testing.assert_close(scripted(feats, mask), model(feats, mask), rtol=0, atol=1e-6)
    torch.testing.assert_close(scripted.attention, model.attention, rtol=0, atol=1e-6)
    moved = feats.unflatten(1, (6, 2))[:, order].flatten(1, 2)
    torch.testing.assert_close(model(moved), model(feats), rtol=0, atol=1e-6)


def test_an_ensemble_takes_the_windows_together_that_its_members_do():
    ensemble = EnsembleMIL(MultiBranchMIL(D, C, n_windows=2, hidden_dim=8), 2).eval()
    assert ensemble.n_windows == 2 and EnsembleMIL(make(), 2).n_windows == 1
    assert ensemble(torch.randn(1, 4, D)).shape == (1, C) and ensemble.attention.shape == (1, 4)


@pytest.mark.parametrize("padding", [1e4, float("nan")])
def test_padding_changes_nothing_where_windows_are_taken_together(padding):
    torch.manual_seed(0)
    model = MultiBranchMIL(D, C, n_windows=2, hidden_dim=8).eval()
    feats = torch.randn(1, 12, D)
    feats[:, 8:] = padding
    padded, attention = model(feats, torch.arange(12).unsqueeze(0) < 8), model.attention
    torch.testing.assert_close(padded, model(feats[:, :8]), rtol=0, atol=1e-6)
    assert (attention[:, 8:] == 0).all()


def test_parts_of_slices_are_refused_where_windows_are_taken_together():
    model = MultiBranchMIL(D, C, n_windows=2)
    with pytest.raises(AggregationError, match="5 instances cannot be slices of 2 windows each"):
        model(torch.randn(1, 5, D))
    with pytest.raises(AggregationError, match="real under one window and padded under another"):
        model(torch.randn(1, 4, D), torch.tensor([[True, True, True, False]]))
    with pytest.raises(AggregationError, match="n_windows is 0; expected 1 or more"):
        MultiBranchMIL(D, C, n_windows=0)


def test_attention_is_whole_where_no_branch_found_anything():
    model, feats = make(), bags()
    torch.nn.init.constant_(model.finding.bias, -300.0)  # sigmoid is 0 in float32
    model(feats)
    torch.testing.assert_close(model.attention.sum(1), torch.ones(2))


def test_autocast_does_not_pool_in_half_precision():
    model, feats, seen = make(), torch.randn(1, 600, D, generator=torch.Generator().manual_seed(2)), {}
    model.instance.register_forward_hook(lambda module, given, hidden: seen.update(hidden=hidden.float()))
    model.reduce.register_forward_pre_hook(lambda module, given: seen.update(pooled=given[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, branches, _ = model.branch(feats)
    expected = (branches.unsqueeze(3) * seen["hidden"].unsqueeze(2)).sum(dim=1)
    assert seen["pooled"].dtype == torch.float32
    torch.testing.assert_close(seen["pooled"], expected, rtol=1e-5, atol=1e-6)


def test_log_probabilities_of_ordered_classes_stay_log_probabilities():
    logits = make(C, kind="ordinal")(bags())
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(2))


def test_one_branch_per_class_unless_told_otherwise():
    assert MultiBranchMIL(D, C).n_branches == C
    assert MultiBranchMIL(D, C, n_branches=7).n_branches == 7


@pytest.mark.parametrize("kind", ["multilabel", "multiclass", "ordinal"])
def test_every_kind_of_head_in_an_ensemble(kind):
    ensemble = EnsembleMIL(make(kind=kind), 2).eval()
    assert ensemble(bags()).shape == (2, C)
    torch.testing.assert_close(ensemble.attention.sum(1), torch.ones(2))


def test_class_weights_are_taken_back_from_the_last_bias():
    model, feats = make(), bags()
    before = model(feats)
    model.load_state_dict(without_class_weights(model, model.state_dict(), [2.0, 0.5, 1.0]))
    torch.testing.assert_close(model(feats), before - torch.tensor([2.0, 0.5, 1.0]).log())


def test_evidence_counts_studies_with_annotations_only():
    evidence = torch.zeros(2, 3, 1)
    annotated = torch.tensor([[[True], [False], [False]], [[False]] * 3])
    mask = torch.tensor([[True, True, False], [True] * 3])
    expected = (
        (3.0 + 1.0) / 2 * np.log(2)
    )  # two real instances of the first study; the positive counts thrice
    assert evidence_term(evidence, annotated, mask).item() == pytest.approx(expected, rel=1e-6)
    assert evidence_term(evidence, torch.zeros_like(annotated), mask).item() == 0


def test_boxes_teach_each_branch_its_own_finding():
    """Two findings on two instances of a bag: the branches part, and the attention falls on what is there."""
    torch.manual_seed(0)
    model = MultiBranchMIL(D, 2, n_branches=2, hidden_dim=16, reduced_dim=4, dropout=0.0)
    network, loss = WithAttention(model), SupervisedAttentionLoss(build_loss("multilabel"), weight=1.0)
    feats = torch.zeros(2, 6, D)
    feats[0, 1, 0] = feats[0, 4, 1] = feats[1, 2, 0] = 3.0
    annotated = torch.zeros(2, 6, 2, dtype=torch.bool)
    annotated[0, 1, 0] = annotated[0, 4, 1] = annotated[1, 2, 0] = True
    label, mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]]), torch.ones(2, 6, dtype=torch.bool)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss(network(feats), (label, annotated, mask)).backward()
        optimizer.step()
    logits, branches, _ = model.branch(feats)
    assert branches[0, 1, 0] > 0.9 and branches[0, 4, 1] > 0.9 and branches[1, 2, 0] > 0.9
    assert ((logits > 0) == (label > 0)).all()
    model(feats)
    assert model.attention[0, [1, 4]].sum() > 0.9  # both findings are there
    assert model.attention[1, 2] > 0.8  # the branch that found nothing hardly counts


def test_branches_and_findings_must_be_as_many():
    output = WithAttention(make())(bags())
    annotated = torch.zeros(2, 5, 1, dtype=torch.bool)
    with pytest.raises(AggregationError, match="2 attention branches and the boxes are of 1 findings"):
        SupervisedAttentionLoss(build_loss("multilabel"), weight=1.0)(
            output, (torch.zeros(2, C), annotated, torch.ones(2, 5, dtype=torch.bool))
        )
