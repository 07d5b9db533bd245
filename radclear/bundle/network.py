"""The network of a head bundle: a study classifier whose weight file holds the aggregator only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from radclear.aggregation import StudyClassifier
from radclear.bundle.domain import PREFIX
from radclear.bundle.location import BundleError
from radclear.bundle.weights import WeightsError, aggregator_only


class HeadNetwork(StudyClassifier):
    """Slices of a study → logits; the backbone's weights are its own bundle's, the aggregator's the head's.

    Loading a state dict, as MONAI's exporters and MONAI Label do, is always strict for what the file is
    about: either exactly the aggregator's tensors, or exactly all of them. What the file says of its domain
    (`radclear.bundle.domain`) is not the network's.
    """

    def load_state_dict(
        self, state_dict: Mapping[str, torch.Tensor], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load the aggregator (or everything), and nothing else.

        Args:
            state_dict: names that start with `aggregator.`; or all names of the network.
            strict: accepted for callers that pass it; a partial load is refused whatever it says.
            assign: as in `torch.nn.Module.load_state_dict`.

        Raises:
            WeightsError: lists missing, unexpected and misshapen tensors.
        """
        state_dict = {name: t for name, t in state_dict.items() if not name.startswith(PREFIX)}
        own = self.state_dict()
        complete = any(name.startswith("backbone.") for name in state_dict)
        expected = own if complete else aggregator_only(own)
        missing = sorted(set(expected) - set(state_dict))
        unexpected = sorted(set(state_dict) - set(expected))
        misshapen = [
            f"{name} {list(tensor.shape)} (expected {list(expected[name].shape)})"
            for name, tensor in state_dict.items()
            if name in expected and tensor.shape != expected[name].shape
        ]
        if missing or unexpected or misshapen:
            raise WeightsError(
                f"these weights do not fit the head: missing {missing or 'none'}, unexpected "
                f"{unexpected or 'none'}, "
                f"wrong shape {misshapen or 'none'}. Take weights that were trained for this bundle's "
                "aggregator and backbone"
            )
        return super().load_state_dict(dict(own, **state_dict), strict=True, assign=assign)


def check_windows(aggregator: nn.Module, n_windows: int) -> None:
    """Refuse an aggregator that takes the windows of a slice together, and another number of them."""
    together = getattr(aggregator, "n_windows", 1)
    if together not in (1, n_windows):
        raise BundleError(
            f"the aggregator takes {together} windows of a slice together (n_windows), and the bundle shows "
            f"each slice under {n_windows}; write {n_windows} or 1 as n_windows of the aggregator in "
            "train.json, inference.json and evaluate.json of the head, and train it anew"
        )
