"""What a step of LeCL costs."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from radclear.backbones import build
from radclear.backbones.flops import flops
from radclear.experiments.pretraining_cost import kept_bytes, main
from radclear.pretraining import MomentumNetwork

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "pretrain.md"


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


@pytest.mark.parametrize("name", ["vit_small", "mambaout_tiny", "vssm_clear", "vmamba_tiny_s1l8"])
def test_the_guides_recipe_follows_from_counted_operations(name):
    """Its tables are what parameters, operations, kept bytes and measured rates that they state give."""
    (line,) = (row for row in GUIDE.read_text().splitlines() if row.startswith(f"| `{name}` |"))
    cells = [float(re.search(r"[\d.]+", cell).group()) for cell in line.split("|")[2:-1]]
    millions, forward, per_slice, fixed, kept, *memory = cells
    with torch.device("meta"):
        network = MomentumNetwork(build(name), projector_hidden=4096, predictor_hidden=4096)
    counted, trained = flops(name), sum(p.numel() for p in network.trained_parameters())
    assert millions == round(sum(p.numel() for p in network.backbone.parameters()) / 1e6, 1)
    assert forward == round(counted / 1e9, 1) and per_slice == round(8 * counted / 1e9)
    assert fixed == round(20 * trained / 1e9, 1)
    found = [round(20 * trained / 1e9 + n * kept / 1e3) for n in (512, 256, 128)]
    assert memory == pytest.approx(found, abs=1)  # the kept bytes are rounded
    (line,) = (row for row in GUIDE.read_text().splitlines() if row.startswith(f"| `{name}`, measured |"))
    _, rate, teraflops, _, hours = (
        float(re.search(r"[\d.]+", cell).group()) for cell in line.split("|")[2:-1]
    )
    assert teraflops == round(8 * counted * rate / 1e12) and hours == round(18e6 / (8 * rate) / 3600, 1)
