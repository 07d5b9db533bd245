"""The running mean of a head's weights: against the recursion in float64, and as what a training keeps."""

from __future__ import annotations

import pytest
import torch
from bag_cohorts import write_cohort
from bundle_fixtures import HEADS, run_config
from torch import nn

from radclear.bundle import AverageWeights, BundleError, read_metadata


@pytest.fixture(scope="module")
def cohort(bundles, tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), bundles / "lecl_gated_cnn")


class Counting(nn.Module):
    """A layer, and a count of its steps that is no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("steps", torch.tensor(0))


def walked(decay: float, n_steps: int) -> tuple[AverageWeights, Counting, list[torch.Tensor]]:
    """A mean over `n_steps` random steps, the network that walked, and where its weights were, in float64."""
    torch.manual_seed(3)
    network = Counting().train()
    average = AverageWeights(network, decay=decay)
    path = [network.linear.weight.detach().double().clone()]
    for _ in range(n_steps):
        with torch.no_grad():
            network.linear.weight.add_(torch.randn(2, 3))
            network.steps += 1
        average(None)
        path.append(network.linear.weight.detach().double().clone())
    return average, network, path


@pytest.mark.parametrize(("decay", "bounds_at"), [(0.5, 8), (0.9, 80), (0.999, None)])
def test_the_mean_is_that_of_the_recursion(decay, bounds_at):
    """Before step `bounds_at` the steps so far say how far the mean looks back, from there on the decay."""
    average, network, path = walked(decay, 200)
    assert bounds_at is None or (1 + bounds_at) / (10 + bounds_at) == decay
    mean = path[0]
    for n, weight in enumerate(path[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        mean = d * mean + (1 - d) * weight
    assert torch.allclose(average.network.linear.weight.double(), mean, rtol=0, atol=1e-5)
    assert average.network.steps == network.steps == 200


def test_without_decay_the_mean_is_the_last_step():
    average, network, _ = walked(0.0, 7)
    assert torch.equal(average.network.linear.weight, network.linear.weight)


def test_the_trained_network_is_left_alone():
    average, network, path = walked(0.99, 5)
    assert torch.equal(network.linear.weight.double(), path[-1]) and network.training
    assert not average.network.training
    assert not any(p.requires_grad for p in average.network.parameters())
    assert all(p.requires_grad for p in network.parameters())


def test_a_short_training_leaves_its_start_behind():
    torch.manual_seed(0)
    network = nn.Linear(1, 1)
    average = AverageWeights(network, decay=0.9999)
    with torch.no_grad():
        network.weight.fill_(5.0)
    for _ in range(20):
        average(None)
    assert average.network.weight.item() == pytest.approx(5.0, abs=1e-3)


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5, True, "0.9", None])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(BundleError, match="average_decay is .*; expected a number from 0 to below 1"):
        AverageWeights(nn.Linear(1, 1), decay=decay)


@pytest.mark.parametrize("name", HEADS[1:])
def test_a_training_validates_and_keeps_the_mean(name, bundles, cohort, tmp_path, clean_process):
    boxes = {"boxes": cohort / "boxes.csv"} if name.startswith("lung") else {}  # whose kinds it has
    workflow, code = run_config(
        bundles / name / "configs" / "train.json",
        workflow_type="train",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        output_bundle=tmp_path / "trained",
        device="cpu",
        max_epochs=1,
        learning_rate=0.003,
        average_decay=0.9,
        balance=False,
        **boxes,
    )
    assert code == 0
    names = ("train#average", "best", "network_def", "validate#dataset")
    average, best, last, bags = (workflow.parser.get_parsed_content(name) for name in names)
    assert average.decay == 0.9 and average.steps == 1
    kept = torch.load(tmp_path / "trained" / "models" / "model.pt", weights_only=True)
    mean = average.network.state_dict()
    assert all(torch.equal(kept[f"aggregator.{name}"], mean[name]) for name in mean)
    assert any(not torch.equal(mean[name], last.state_dict()[name]) for name in mean)
    feats = [bags[i]["feats"].unsqueeze(0) for i in range(len(bags))]
    with torch.inference_mode():
        of_mean, of_last = (
            torch.cat([network.eval()(x) for x in feats]) for network in (average.network, last)
        )
    assert torch.allclose(best.logits, of_mean, atol=1e-5)
    assert not torch.allclose(best.logits, of_last, atol=1e-3)
    entry = read_metadata(tmp_path / "trained")["radclear"]["weights"]["model.pt"]
    assert entry["settings"]["average_decay"] == 0.9
