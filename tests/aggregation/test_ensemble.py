"""An ensemble is the mean of its members, in eager mode and as TorchScript."""

import pytest
import torch

from radclear.aggregation import (
    AGGREGATORS,
    AggregationError,
    EnsembleMIL,
    MeanPoolMIL,
    build_aggregator,
    join_members,
)


def members(name, n=3, kind="multilabel"):
    made = []
    for seed in range(n):
        torch.manual_seed(seed)
        made.append(build_aggregator(name, 6, 4, hidden_dim=8, kind=kind).eval())
    return made


def bags():
    torch.manual_seed(9)
    mask = torch.arange(7) < torch.tensor([7, 3]).unsqueeze(1)
    feats = torch.randn(2, 7, 6)
    feats[~mask] = float("nan")
    return feats, mask


@pytest.mark.parametrize("kind", ["multilabel", "ordinal"])
@pytest.mark.parametrize("name", AGGREGATORS)
def test_mean_of_logits_and_attention(name, kind, tmp_path):
    parts, (feats, mask) = members(name, kind=kind), bags()
    ensemble = EnsembleMIL(build_aggregator(name, 6, 4, hidden_dim=8, kind=kind), 3).eval()
    ensemble.load_state_dict(join_members(part.state_dict() for part in parts))
    expected = sum(part(feats, mask).double() for part in parts) / 3
    torch.testing.assert_close(ensemble(feats, mask).double(), expected, rtol=0, atol=1e-6)
    attention = sum(part.attention.double() for part in parts) / 3
    torch.testing.assert_close(ensemble.attention.double(), attention, rtol=0, atol=1e-6)
    assert (ensemble.attention[~mask] == 0).all() and not ensemble.attention.requires_grad
    torch.testing.assert_close(ensemble.attention.sum(dim=1), torch.ones(2), rtol=0, atol=1e-6)

    torch.jit.script(ensemble).save(tmp_path / "model.ts")
    scripted = torch.jit.load(tmp_path / "model.ts")
    torch.testing.assert_close(scripted(feats, mask), ensemble(feats, mask), rtol=0, atol=1e-6)
    torch.testing.assert_close(scripted.attention, ensemble.attention, rtol=0, atol=1e-6)


def test_members_do_not_share_weights():
    ensemble = EnsembleMIL(MeanPoolMIL(6, 2, hidden_dim=8), 2)
    with torch.no_grad():
        ensemble.members[0].head[1].weight.zero_()
    assert ensemble.members[1].head[1].weight.abs().sum() > 0


def test_wrong_ensembles_are_refused():
    with pytest.raises(AggregationError, match="0 members"):
        EnsembleMIL(MeanPoolMIL(6, 2), 0)
    with pytest.raises(AggregationError, match="expected one of attention, gated, mean_pool"):
        build_aggregator("max_pool", 6, 2)
    ensemble = EnsembleMIL(MeanPoolMIL(6, 2, hidden_dim=8), 2)
    with pytest.raises(RuntimeError, match="members.1"):
        ensemble.load_state_dict(join_members([MeanPoolMIL(6, 2, hidden_dim=8).state_dict()]))
