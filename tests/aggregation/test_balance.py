"""What class weights do to logits is known, and is taken back."""

import pytest
import torch

from radclear.aggregation import (
    AggregationError,
    EnsembleMIL,
    build_aggregator,
    build_loss,
    to_probabilities,
    without_class_weights,
)


@pytest.mark.parametrize("kind", ["multilabel", "multiclass"])
def test_weighted_training_then_correction_gives_the_prevalence(kind):
    """Without any information in the bags, the best a network can say is how frequent each class is."""
    torch.manual_seed(0)
    network = build_aggregator("attention", 3, 3, hidden_dim=4, dropout=0.0, kind=kind)
    counts = torch.tensor([10, 30, 60])
    if kind == "multilabel":
        labels = (torch.arange(100).unsqueeze(1) < counts).double()
        weights = (100 - counts) / counts
    else:
        labels = torch.arange(3).repeat_interleave(counts)
        weights = 100 / (3 * counts)
    loss, bias = build_loss(kind, weights=weights), network.head[-1].bias
    bags = torch.zeros(100, 1, 3)
    optimizer = torch.optim.LBFGS([bias], max_iter=200, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        value = loss(network(bags), labels)
        value.backward()
        return value

    optimizer.step(step)
    weighted = to_probabilities(network(bags[:1]), kind)[0].detach()
    expected = torch.full((3,), 0.5 if kind == "multilabel" else 1 / 3)
    torch.testing.assert_close(weighted, expected, atol=1e-3, rtol=0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    corrected = without_class_weights(network, network.state_dict(), loss.weights)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    network.load_state_dict(corrected)
    found = to_probabilities(network(bags[:1]), kind)[0].detach()
    torch.testing.assert_close(found, counts / 100, atol=1e-3, rtol=0)


def test_all_members_of_an_ensemble_are_corrected():
    torch.manual_seed(1)
    member = build_aggregator("gated", 3, 2, hidden_dim=4)
    ensemble, bags = EnsembleMIL(member, 3).eval(), torch.randn(2, 5, 3)
    weights = torch.tensor([4.0, 0.5])
    expected = ensemble(bags) - weights.log()
    ensemble.load_state_dict(without_class_weights(ensemble, ensemble.state_dict(), weights))
    torch.testing.assert_close(ensemble(bags), expected)


def test_what_cannot_be_corrected_is_said():
    ordinal = build_aggregator("attention", 3, 2, hidden_dim=4, kind="ordinal")
    with pytest.raises(AggregationError, match="last layer is CumulativeLogits"):
        without_class_weights(ordinal, ordinal.state_dict(), [1.0, 2.0])
    with pytest.raises(AggregationError, match="holds no aggregator"):
        without_class_weights(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2).state_dict(), [1.0, 2.0])
    plain = build_aggregator("attention", 3, 2, hidden_dim=4)
    with pytest.raises(AggregationError, match="expected positive"):
        without_class_weights(plain, plain.state_dict(), [0.0, 2.0])
