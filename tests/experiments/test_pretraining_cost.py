"""What a step of LeCL costs."""

import torch
from torch import nn

from radclear.experiments.pretraining_cost import kept_bytes, main


def test_kept_bytes_are_those_of_the_saved_tensors():
    """A product keeps its input and weight, once each although the input goes into two layers."""
    first, second = nn.Linear(8, 5, bias=False), nn.Linear(8, 3, bias=False)
    x = torch.rand(4, 8)
    expected = 4 * (4 * 8 + 8 * 5 + 8 * 3)
    found = kept_bytes(lambda: first(x).sum() + second(x).sum())
    assert found in (expected, expected - 4 * (8 * 5 + 8 * 3))  # the weights only if x needs a gradient
    x.requires_grad_()
    assert kept_bytes(lambda: first(x).sum() + second(x).sum()) == expected


def test_the_table_has_a_line_per_backbone(capsys):
    options = [
        "--image-size",
        "64",
        "--slices",
        "4",
        "--steps",
        "1",
        "--epochs",
        "2",
        "--precision",
        "float32",
    ]
    assert main(["--backbones", "mambaout_nano", "vit_nano", *options]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["backbone", "slices/s", "step/(4·forward)"]
    assert [line.split()[0] for line in lines] == ["mambaout_nano", "vit_nano"]
    for line in lines:
        words = line.split()
        assert float(words[1]) > 0 and float(words[2]) > 0.5
        assert words[3] == "0.0" and len(words[7:]) == 3  # two epochs and the unit
