"""Class weights help a head learn rare classes, and shift its logits; here the shift is taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from radclear.aggregation.mil import AggregationError, MILAggregator


def without_class_weights(
    network: nn.Module, state_dict: Mapping[str, torch.Tensor], weights: Sequence[float] | torch.Tensor
) -> dict[str, torch.Tensor]:
    """The weights of a network that was trained with class weights, such that its logits are unbiased again.

    With positives counted w times, binary cross-entropy is least at logit log(w p / (1 - p)), and with class
    c counted w_c times, cross-entropy is least at the softmax of log(w_c p_c) (Elkan, IJCAI 2001, theorem 2).
    So log w comes off the bias of the last layer; neither a ranking within a class nor attention changes.

    Args:
        network: an aggregator, or an ensemble of them; left as it is.
        state_dict: of the network.
        weights: (C,) positive, as `radclear.aggregation.build_loss` got them.

    Returns:
        A copy of the state dict, with new biases.

    Raises:
        AggregationError: the network has no last layer with a bias per class, as with ordinal heads; or a
            weight is not positive.
    """
    offset = torch.as_tensor(weights, dtype=torch.float64)
    if not bool((offset.isfinite() & (offset > 0)).all()):
        raise AggregationError(f"class weights are {offset.tolist()}; expected positive numbers")
    changed = dict(state_dict)
    for prefix, module in network.named_modules():
        if not isinstance(module, MILAggregator):
            continue
        last = module.head[-1]
        if not isinstance(last, nn.Linear) or last.bias is None or last.bias.shape != offset.shape:
            raise AggregationError(
                f"the last layer is {type(last).__name__}, without a bias for each of {len(offset)} classes, "
                "so that class weights cannot be taken back; train without them (balance: false)"
            )
        name = f"{prefix}.head.{len(module.head) - 1}.bias".lstrip(".")
        bias = state_dict[name]
        changed[name] = (bias.double() - offset.log().to(bias.device)).to(bias.dtype)
    if all(changed[name] is state_dict[name] for name in state_dict):
        raise AggregationError(
            f"{type(network).__name__} holds no aggregator of radclear, so that class weights cannot be "
            "taken back; train without them (balance: false)"
        )
    return changed
