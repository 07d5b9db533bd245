"""From uint8 windows to embeddings: order, chunks, memory, and what goes wrong."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import radclear.backbones
from radclear.backbones import (
    DeviceMemoryError,
    EmbeddingError,
    build,
    embed_slices,
    normalize_slices,
    resolve_precision,
)

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class MeanBackbone(nn.Module):
    """Embeds an image as the means of its channels; remembers what it was given."""

    image_size = 4
    embedding_dim = 3

    def __init__(self, fits: int = 1000, result: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout()
        self.fits, self.result = fits, result
        self.batches: list[int] = []
        self.modes: list[bool] = []

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.fits:
            raise torch.OutOfMemoryError("no memory left")
        self.batches.append(len(x))
        self.modes.append(self.training)
        y = x.mean((2, 3)) * self.weight
        return y if self.result is None else torch.full_like(y, self.result)


def grey_slices(windows: int = 2, count: int = 7) -> torch.Tensor:
    """Instance z·W + w is of the constant grey level z·W + w."""
    levels = torch.arange(windows * count, dtype=torch.uint8).view(count, windows).T
    return levels[:, :, None, None].expand(windows, count, 4, 4).contiguous()


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
def test_instances_interleave_the_windows(batch_size):
    found = embed_slices(MeanBackbone(), grey_slices(), precision="float32", batch_size=batch_size)
    levels = torch.arange(14.0)[:, None] / 255
    torch.testing.assert_close(found, (levels - torch.tensor(MEAN)) / torch.tensor(DEVIATION))
    assert found.dtype == torch.float32 and found.device.type == "cpu"
    assert not found.requires_grad and not found.is_inference()


def test_chunks_and_progress():
    backbone, seen = MeanBackbone(), []
    embed_slices(backbone, grey_slices(), precision="float32", batch_size=4, progress=seen.append)
    assert backbone.batches == [4, 4, 4, 2]
    assert seen == [4, 8, 12, 14]


def test_no_slices_give_no_embeddings():
    assert embed_slices(MeanBackbone(), grey_slices(count=0), precision="float32").shape == (0, 3)


def test_evaluates_and_restores_the_mode_of_every_part():
    backbone = MeanBackbone().train()
    backbone.dropout.eval()
    embed_slices(backbone, grey_slices(), precision="float32")
    assert backbone.modes == [False, False]
    assert backbone.training and not backbone.dropout.training
    with pytest.raises(DeviceMemoryError):
        embed_slices(MeanBackbone(fits=0), grey_slices(), precision="float32")


def test_batch_is_halved_when_memory_does_not_suffice(caplog):
    backbone = MeanBackbone(fits=3)
    with caplog.at_level(logging.WARNING):
        found = embed_slices(backbone, grey_slices(), precision="float32", batch_size=8)
    assert backbone.batches == [2] * 7
    assert "out of memory with 8 slices at once on cpu; going on with 4" in caplog.text
    torch.testing.assert_close(found, embed_slices(MeanBackbone(), grey_slices(), precision="float32"))


def test_a_single_slice_that_does_not_fit_is_an_error_with_advice():
    backbone = MeanBackbone(fits=0).train()
    with pytest.raises(DeviceMemoryError, match="one slice does not fit the memory of cpu; free memory"):
        embed_slices(backbone, grey_slices(), precision="float32")
    assert backbone.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_numbers_are_an_error(value):
    with pytest.raises(
        EmbeddingError, match="14 of 14 embeddings are not finite.*slice 0 window 0, slice 0 window 1"
    ):
        embed_slices(MeanBackbone(result=value), grey_slices(), precision="float32")


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        (torch.zeros(2, 3, 4, 4), "expected uint8 slices.*found torch.float32"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"shape \(3, 4, 4\)"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), r"shape \(2, 3, 4, 5\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "slices of side 4, found 8"),
    ],
)
def test_other_slices_are_refused(slices, message):
    with pytest.raises(EmbeddingError, match=message):
        embed_slices(MeanBackbone(), slices)


def test_batch_size_must_be_positive():
    with pytest.raises(EmbeddingError, match="at least 1, found 0"):
        embed_slices(MeanBackbone(), grey_slices(), batch_size=0)


def test_a_real_backbone_in_the_native_precision():
    torch.manual_seed(0)
    backbone = build("mambaout_nano", image_size=64)
    slices = torch.randint(0, 256, (2, 2, 64, 64), dtype=torch.uint8)
    expected = embed_slices(backbone, slices, precision="float32")
    with torch.no_grad():
        x = normalize_slices(slices.transpose(0, 1).reshape(4, 64, 64).float() / 255)
        torch.testing.assert_close(expected, backbone.eval()(x), rtol=1e-4, atol=1e-5)
    found = embed_slices(backbone, slices, precision="auto")
    limit = 2e-2 if resolve_precision("auto", "cpu") == torch.bfloat16 else 1e-6
    assert (found - expected).norm() / expected.norm() < limit


def test_normalisation_of_both_shapes_and_in_torchscript():
    grey = torch.rand(3, 5, 5)
    expected = torch.stack([(grey - m) / s for m, s in zip(MEAN, DEVIATION, strict=True)], dim=1)
    scripted = torch.jit.script(normalize_slices)
    for x in (grey, grey[:, None]):
        torch.testing.assert_close(normalize_slices(x), expected)
        assert torch.equal(scripted(x), normalize_slices(x))
    assert normalize_slices(grey).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="peak memory of a process is read from /proc"
)
def test_memory_does_not_grow_with_the_number_of_slices():
    """A study four times as long needs no more than its own bytes more."""
    code = """
import sys, torch
from radclear.backbones import build, embed_slices
def peak():
    line = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))
    return int(line.split()[1]) * 1024
backbone = build('mambaout_nano', dims=(8, 8), depths=(1, 1))
embed_slices(backbone, torch.zeros(1, 16, 224, 224, dtype=torch.uint8), batch_size=4, precision='float32')
slices = torch.zeros(1, 96, 224, 224, dtype=torch.uint8)
before = peak()
embed_slices(backbone, slices, batch_size=4, precision='float32')
print(peak() - before)
"""
    root = Path(radclear.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 20 * 2**20


def test_allocator_setting_says_whether_it_holds():
    path = Path(radclear.backbones.__file__).with_name("allocator.py")
    code = f"import runpy; print(runpy.run_path({str(path)!r})['keep_freed_memory']())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "None" or "glibc" in result.stdout
