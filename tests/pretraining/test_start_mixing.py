"""The mixture of the weights of a start and an end, against its formula."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from radclear.pretraining import MixWithStart
from radclear.pretraining.annotated_views import CohortError


def trained(share: float):
    """Start, end and mixture of a network that an engine's steps change."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    end = {}

    def step(engine, batch):
        for tensor in network.state_dict().values():
            tensor.add_(1) if not tensor.is_floating_point() else tensor.add_(torch.randn_like(tensor))
        end.update({name: tensor.clone() for name, tensor in network.state_dict().items()})

    engine = Engine(step)
    MixWithStart(network, share=share, started_from="model.pt").attach(engine)
    engine.run([0, 1], max_epochs=2)
    return start, end, network.state_dict()


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_weights_lie_between_start_and_end_by_the_share(share):
    start, end, found = trained(share)
    for name, tensor in found.items():
        if tensor.is_floating_point():
            expected = share * start[name].double() + (1 - share) * end[name].double()
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-6)
            assert not torch.equal(start[name], end[name])
        else:  # a count is not mixed
            assert torch.equal(tensor, end[name])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": 1.0}, "start_share is 1.0; expected 0 to below 1"),
        ({"share": -0.1}, "start_share is -0.1"),
        ({"share": float("nan")}, "start_share is nan"),
        ({"share": "half"}, "start_share is 'half'"),
        ({"share": 0.5, "started_from": None}, "start_share is 0.5 without initial_weights"),
    ],
)
def test_what_cannot_be_mixed_is_refused(options, said):
    with pytest.raises(CohortError, match=said):
        MixWithStart(nn.Linear(2, 2), **{"started_from": "model.pt", **options})
