"""LeCL against a loop in float64, the MoCo-v3 control and a worked example."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from radclear.pretraining import lecl_loss


def batch(n: int = 6, d: int = 5, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    q, k = (F.normalize(torch.randn(n, d, generator=generator), dim=1) for _ in range(2))
    return q, k, torch.tensor([True, False, True, True, False, False][:n])


def reference_of(i, q, k, lesion, tau, w, weighting="similarity"):
    """The formula for query i, term by term, in float64, times 2τ."""
    row = (q[i].double() @ k.double().T / tau).tolist()
    total = sum(math.exp(v) for v in row)
    for j, v in enumerate(row):
        if lesion[j] and j != i and w:
            total += math.exp(w * v) if weighting == "similarity" else w * math.exp(v)
    return 2 * tau * (-row[i] + math.log(total))


def reference(q, k, lesion, tau, w, weighting):
    """The mean over the queries."""
    return sum(reference_of(i, q, k, lesion, tau, w, weighting) for i in range(len(q))) / len(q)


@pytest.mark.parametrize("weighting", ["similarity", "density"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_equals_the_formula(weighting, weight, tau):
    q, k, lesion = batch()
    loss = lecl_loss(q, k, lesion, temperature=tau, weight=weight, weighting=weighting)
    assert loss.item() == pytest.approx(reference(q, k, lesion, tau, weight, weighting), rel=1e-6)


def test_lesion_terms_for_lesion_queries_only():
    """Lesion slices as queries have the formula's term, the others MoCo v3's."""
    q, k, lesion = batch()
    with_term = [reference_of(i, q, k, lesion, 0.5, 2.0) for i in range(6)]
    without = [reference_of(i, q, k, lesion, 0.5, 0.0) for i in range(6)]
    expected = [a if shown else b for a, b, shown in zip(with_term, without, lesion.tolist(), strict=True)]
    loss = lecl_loss(q, k, lesion, temperature=0.5, weight=2.0, lesion_queries_only=True)
    assert loss.item() == pytest.approx(sum(expected) / 6, rel=1e-6)
    assert loss.item() < lecl_loss(q, k, lesion, temperature=0.5, weight=2.0).item()


def test_worked_example():
    eye = torch.eye(2)
    loss = lecl_loss(eye, eye, torch.tensor([True, True]))
    assert loss.item() == pytest.approx(2 * (-1 + math.log(math.e + 2)), rel=1e-6)


@pytest.mark.parametrize("weighting", ["similarity", "density"])
def test_without_lesions_it_is_moco_v3(weighting):
    q, k, _ = batch()
    control = F.cross_entropy(q @ k.T / 0.5, torch.arange(6)) * 2 * 0.5
    loss = lecl_loss(q, k, torch.zeros(6, dtype=torch.bool), temperature=0.5, weighting=weighting)
    assert loss.item() == pytest.approx(control.item(), rel=1e-6)


def test_two_processes_give_the_mean_of_one():
    q, k, lesion = batch()
    parts = [lecl_loss(q[r * 3 : r * 3 + 3], k, lesion, rank=r) for r in range(2)]
    assert (sum(parts) / 2).item() == pytest.approx(lecl_loss(q, k, lesion).item(), rel=1e-6)


def test_excluded_keys_take_no_part_but_the_positive_does():
    q, k, lesion = batch()
    exclude = torch.zeros(6, 6, dtype=torch.bool)
    exclude[:, 3] = True
    kept = [0, 1, 2, 4, 5]
    loss = lecl_loss(q, k, lesion, exclude=exclude)
    one_by_one = []
    for i in range(6):
        columns = kept if i != 3 else [0, 1, 2, 3, 4, 5]
        s = (q[i].double() @ k[columns].double().T).tolist()
        total = sum(math.exp(v) for v in s) + sum(
            math.exp(v) for j, v in zip(columns, s, strict=True) if lesion[j] and j != i
        )
        one_by_one.append(-float(q[i].double() @ k[i].double()) + math.log(total))
    assert loss.item() == pytest.approx(2 * sum(one_by_one) / 6, rel=1e-6)


def test_gradient_flows_into_queries_only_and_bf16_is_computed_in_float32():
    q, k, lesion = batch()
    q.requires_grad_()
    k.requires_grad_()
    loss = lecl_loss(q.bfloat16(), k.bfloat16(), lesion)
    loss.backward()
    assert loss.dtype == torch.float32 and q.grad.abs().sum() > 0 and k.grad is None


def test_wrong_shapes_and_weightings_are_named():
    q, k, lesion = batch()
    with pytest.raises(ValueError, match="global batch"):
        lecl_loss(q, k[:4], lesion)
    with pytest.raises(ValueError, match="softness"):
        lecl_loss(q, k, lesion, weighting="softness")
