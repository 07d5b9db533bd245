"""Whether what a training makes can be used: by the configs that will load it, and with the boxes given."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from torch import nn

from radclear.aggregation import MILAggregator
from radclear.bundle.annotated_training import annotated_slices
from radclear.bundle.configs import config_parser, own_error
from radclear.bundle.location import METADATA, BundleError, find_backbone
from radclear.bundle.network import check_windows
from radclear.errors import RadclearError

_LOADING = ("inference", "evaluate")


def check_network(
    network: nn.Module,
    *,
    bundle_root: str | Path,
    output_bundle: str | Path,
    backbone_bundle: str | Path,
    kind: str,
    boxes: str | Path | None = None,
    box_kinds: Sequence[str] | None = None,
    findings: Sequence[str] = (),
    auxiliary: Sequence[str] = (),
) -> None:
    """End the process with exit code 2 and one plain sentence where trained weights would be lost.

    Args:
        network: the aggregator that is going to be trained.
        bundle_root: the head bundle.
        output_bundle: where the weights go; a folder that is not there is made as a copy.
        backbone_bundle: as the config names it.
        kind: of the head, which a copy's configs will have.
        boxes, box_kinds, findings: see `radclear.bundle.annotated_slices`.
        auxiliary: columns that are learned beside the classes.
    """
    try:
        there = (Path(output_bundle) / METADATA).is_file()
        target = Path(output_bundle if there else bundle_root)
        values = {"kind": kind, "backbone_bundle": str(find_backbone(bundle_root, backbone_bundle))}
        for name in _LOADING:
            parser = config_parser(target, values, name=name)
            check_windows(network, len(parser["windows"]))
            difference = _difference(network, parser)
            if difference:
                raise BundleError(
                    f"{target / 'configs' / name}.json could not load what train.json trains: {difference}. "
                    "Write the same aggregator into train.json, inference.json and evaluate.json of the head"
                    + (", and name a folder that is not there yet with --output_bundle" if there else "")
                )
        if (boxes is not None or auxiliary) and not isinstance(network, MILAggregator):
            raise BundleError(
                f"the aggregator of train.json is {type(network).__name__}, which --boxes and --auxiliary "
                "cannot teach; expected a single one, such as MultiBranchMIL, or neither option"
            )
        annotated = annotated_slices(boxes, kinds=box_kinds, findings=findings)
        n_branches = getattr(network, "n_branches", 1)
        if annotated is not None and n_branches != max(len(findings), 1):
            raise BundleError(
                f"boxes would teach {len(findings) or 'no'} findings, and the head has {n_branches} "
                "attention branches; name one finding for each branch with --findings ([] for a single "
                "attention), or leave out --boxes"
            )
    except RadclearError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _difference(network: nn.Module, parser: ConfigParser) -> str:
    """How a config's aggregator differs from a network in class or weights; empty where it does not."""
    if "aggregator" not in parser:
        return "it has no aggregator"
    try:
        with torch.random.fork_rng():  # the training draws the same numbers as without this check
            other = parser.get_parsed_content("aggregator")
    except Exception as error:  # MONAI wraps what went wrong
        raise own_error(error) or error from None
    if type(other) is not type(network):
        return f"its aggregator is {type(other).__name__}, and that of train.json {type(network).__name__}"
    shapes, own = ({k: list(v.shape) for k, v in m.state_dict().items()} for m in (other, network))
    for name in sorted(shapes.keys() | own.keys()):
        if shapes.get(name) != own.get(name):
            there, here = shapes.get(name, "missing"), own.get(name, "missing")
            return f"its {name} is {there}, and that of train.json {here}"
    return ""
