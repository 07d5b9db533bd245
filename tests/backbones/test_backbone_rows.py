"""Rows of bfloat16 between the products: the kernels against torch in float64 on the same rounded values."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F

from radclear.backbones import build, embed_slices, native_precisions, rows
from radclear.backbones.linear import cast, keep_casts, linear
from radclear.backbones.precision import describe
from radclear.backbones.scan import compiler

HALF_UNIT = 2.0**-8  # of a bfloat16, relative: one rounding at the end and nothing else to see
needs_compiler = pytest.mark.skipif(compiler.find_compiler() is None, reason="no C++ compiler on PATH")


@pytest.fixture(scope="module", params=(None, (), ("-mavx2", "-mfma")), ids=("native", "portable", "avx2"))
def library(request, tmp_path_factory):
    """The library as this machine compiles it, and as others do."""
    if request.param is None:
        return rows._load()
    if request.param and "AVX2" not in describe("cpu"):
        pytest.skip(f"this is {describe('cpu')}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(compiler, "OPTIONAL_FLAGS", (request.param,))
        return rows._open(compiler.compile_library(rows.SOURCE, compiler.find_compiler()))


@pytest.fixture
def kernels(library, monkeypatch):
    """A list of the kernels that were called; nothing wants gradients."""
    monkeypatch.setattr(rows, "_library", library)
    monkeypatch.setattr(rows, "_tried", True)
    called, call = [], rows._call
    monkeypatch.setattr(rows, "_call", lambda name, *arguments: called.append(name) or call(name, *arguments))
    with torch.no_grad():
        yield called


def assert_rounded_once(result, expected):
    assert result.dtype == torch.bfloat16 and result.shape == expected.shape
    error = (result.double() - expected).abs() / expected.abs().clamp(min=1e-6)
    assert error.max() <= HALF_UNIT * 1.02


def halves(*shape, scale=1.0):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale).bfloat16()


@needs_compiler
@pytest.mark.parametrize("n", (1, 16, 197, 4096))
def test_softmax(kernels, n):
    scores = halves(2, 3, 5, n, scale=20.0)
    expected = (scores.double() * 0.17).softmax(-1)
    assert_rounded_once(rows.softmax(scores, 0.17), expected)
    assert kernels == ["rows_softmax"]


@needs_compiler
@pytest.mark.parametrize(("hidden", "n"), ((64, 24), (128, 48), (37, 5)))
def test_gate(kernels, hidden, n):
    mixed, local = halves(2, 3, 2 * hidden, scale=3.0), halves(2, 3, n)
    g, plain, _ = mixed.double().split([hidden, hidden - n, n], dim=-1)
    expected = F.gelu(g) * torch.cat([plain, local.double()], dim=-1)
    result = rows.gate(mixed, local)
    assert kernels == ["rows_gate"]
    # The gate's far tail, 1e-5 of its range and below, is exact in absolute terms only.
    assert ((result.double() - expected).abs() <= HALF_UNIT * expected.abs() * 1.02 + 3e-6).all()


@needs_compiler
@pytest.mark.parametrize("channels", (16, 96, 35))
def test_norm_and_gate(kernels, channels):
    y = torch.randn(2, 3, 4, channels) + 5
    weight, bias, projected = torch.rand(channels) + 0.5, torch.randn(channels), halves(2, 3, 4, 2 * channels)
    gate = projected[..., channels:]  # a slice of a wider projection is not copied
    expected = F.layer_norm(y.double(), (channels,), weight.double(), bias.double(), 1e-5)
    result = rows.norm_and_gate(y, weight, bias, 1e-5, gate)
    assert kernels == ["rows_norm_and_gate"]
    wanted = expected * F.silu(gate.double())
    assert ((result.double() - wanted).abs() <= HALF_UNIT * wanted.abs() * 1.02 + 5e-6).all()


@needs_compiler
@pytest.mark.parametrize(("height", "width", "channels"), ((1, 1, 16), (5, 1, 32), (1, 6, 20), (7, 4, 67)))
@pytest.mark.parametrize("bias", (True, False))
def test_convolve_and_silu(kernels, height, width, channels, bias):
    convolution = torch.nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)
    projected = halves(2, height, width, 2 * channels)
    x = projected[..., :channels]  # a slice of a wider projection is not copied
    result = rows.convolve_and_silu(x, convolution.weight, convolution.bias)
    assert kernels == ["rows_convolve"]
    expected = F.silu(convolution.double()(x.double().permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
    assert result.shape == x.shape and result.dtype == torch.bfloat16
    assert ((result.double() - expected).abs() <= HALF_UNIT * expected.abs() * 1.02 + 5e-6).all()


@needs_compiler
def test_what_is_not_finite_stays_so(kernels):
    scores = halves(2, 40)
    scores[1, 38] = float("nan")
    result = rows.softmax(scores, 1.0)
    assert result[0].isfinite().all() and result[1].isnan().all()
    gate = halves(2, 20)
    gate[0, 3] = float("nan")
    assert rows.norm_and_gate(torch.randn(2, 20), torch.ones(20), torch.ones(20), 1e-5, gate)[0, 3].isnan()
    mixed = halves(1, 64)
    mixed[0, 2] = float("nan")
    assert rows.gate(mixed, halves(1, 8))[0, 2].isnan()


def test_torch_computes_where_gradients_are_wanted_and_in_float32(monkeypatch):
    monkeypatch.setattr(rows, "_call", lambda *arguments: pytest.fail("a kernel was called"))
    convolution, x = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.randn(1, 5, 4, 8)
    expected = F.silu(convolution(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
    y = rows.convolve_and_silu(x, convolution.weight, convolution.bias)
    assert torch.equal(y, expected) and y.requires_grad
    with torch.no_grad():  # rows that are not evenly spaced
        weight, bias = convolution.weight.bfloat16(), convolution.bias.bfloat16()
        assert rows.convolve_and_silu(x.bfloat16()[:, :, :3], weight, bias).shape == (1, 5, 3, 8)
    scores = halves(3, 7).requires_grad_()
    assert rows.softmax(scores, 0.5).requires_grad
    with torch.no_grad():
        assert torch.equal(rows.softmax(scores.float(), 0.5), (scores.float() * 0.5).softmax(-1))


def test_without_a_compiler_torch_computes_and_the_reason_is_logged_once(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(rows, "_library", None)
    monkeypatch.setattr(rows, "_tried", False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    mixed, local = halves(2, 64), halves(2, 8)
    with torch.no_grad(), caplog.at_level(logging.INFO, "radclear"):
        for _ in range(2):
            assert rows.gate(mixed, local).shape == (2, 32)
    lines = [record.getMessage() for record in caplog.records if "rows of bfloat16" in record.getMessage()]
    assert len(lines) == 1 and "no C++ compiler found" in lines[0]


def test_linear_in_bfloat16_equals_the_product_of_the_same_values():
    if "bfloat16" not in native_precisions("cpu"):
        pytest.skip("no bfloat16 arithmetic here")
    layer = torch.nn.Linear(48, 20)
    x = torch.randn(3, 5, 48)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        y = linear(x, layer.weight, layer.bias)
    a, w, b = (tensor.detach().bfloat16().double() for tensor in (x, layer.weight, layer.bias))
    torch.testing.assert_close(y.double(), F.linear(a, w, b), rtol=HALF_UNIT, atol=1e-5)
    assert y.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, layer.weight, layer.bias).requires_grad


def test_casts_are_kept_inside_and_forgotten_after():
    parameter = torch.nn.Parameter(torch.ones(3))
    with keep_casts():
        first = cast(parameter, torch.bfloat16)
        assert cast(parameter, torch.bfloat16) is first
    with torch.no_grad():
        parameter.fill_(2.0)
    assert torch.equal(cast(parameter, torch.bfloat16), torch.full((3,), 2.0, dtype=torch.bfloat16))


@pytest.mark.parametrize("name", ("vit_nano", "vssm_nano", "mambaout_nano"))
def test_weights_changed_between_two_embeddings_count(name):
    if "bfloat16" not in native_precisions("cpu"):
        pytest.skip("no bfloat16 arithmetic here")
    torch.manual_seed(0)
    backbone = build(name)
    slices = torch.randint(0, 256, (1, 3, backbone.image_size, backbone.image_size), dtype=torch.uint8)
    before = embed_slices(backbone, slices, precision="bfloat16")
    expected = embed_slices(backbone, slices, precision="float32")
    assert (before - expected).norm() / expected.norm() <= 2e-2
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.5)
    after = embed_slices(backbone, slices, precision="bfloat16")
    expected = embed_slices(backbone, slices, precision="float32")
    assert not torch.equal(after, before) and (after - expected).norm() / expected.norm() <= 3e-2
