"""The measurement measures the same thing in every tier."""

from __future__ import annotations

import torch

from radclear.backbones.scan import available_scans
from radclear.backbones.scan.measure import measure_core


def test_tiers_agree_with_the_naive_loop_and_absent_ones_are_named():
    threads = torch.get_num_threads()
    report = measure_core(
        height=6, width=7, channels=32, states=4, batch=2, repeats=1, tiers=("c", "slab", "mamba")
    )
    assert (
        report["threads"] == 1 and torch.get_num_threads() == threads
    )  # one while measuring, then as before
    measured = set(report["ratio"])
    assert "slab" in measured and ("c" in measured) == (available_scans()["c"] == "available")
    assert set(report["milliseconds"]) == measured | {"naive"}
    assert all(ratio > 0 for ratio in report["ratio"].values())
    assert max(report["relative_error"].values()) <= 2e-6  # two float32 results
    assert report["unavailable"]["mamba"] == "mamba-ssm's kernel runs on cuda, not on cpu"
