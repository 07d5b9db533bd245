"""Compiling the kernel: once, safely, and with whatever flags the compiler takes."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing

import pytest
import torch
from oracle import (
    factor_inputs,
    naive_scan_2d,
    naive_scan_of_factors,
    relative_error,
    scan_inputs,
    with_gradients,
)

from radclear.backbones.precision import describe
from radclear.backbones.scan import c_kernel, compiler

needs_compiler = pytest.mark.skipif(compiler.find_compiler() is None, reason="no C++ compiler on PATH")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "radclear" / "scan"


@pytest.fixture
def tiny(tmp_path):
    source = tmp_path / "tiny.cpp"
    source.write_text('extern "C" int answer() { return 42; }\n')
    return source


def compile_and_call(source, barrier):
    for _ in range(5):
        barrier.wait()
        if compiler.cached_library(source, None) is not None:  # a file that is there is whole
            assert ctypes.CDLL(str(compiler.cached_library(source, None))).answer() == 42
        path = compiler.compile_library(source, compiler.find_compiler())
        assert ctypes.CDLL(str(path)).answer() == 42


@needs_compiler
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_share_one_cache(cache, tiny):
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(2, timeout=600)
    processes = [fork.Process(target=compile_and_call, args=(tiny, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0, 0]
    assert list(cache.iterdir()) == [compiler.cached_library(tiny, None)]  # one file, no leftovers


@needs_compiler
def test_second_use_does_not_compile(cache, tiny, monkeypatch):
    command = compiler.find_compiler()
    assert compiler.cached_library(tiny, command) is None
    path = compiler.compile_library(tiny, command)
    assert compiler.cached_library(tiny, command) == path
    assert compiler.cached_library(tiny, None) == path  # a machine that lost its compiler keeps its kernel
    tiny.write_text(tiny.read_text() + "// changed\n")
    assert compiler.cached_library(tiny, command) is None


@needs_compiler
def test_a_changed_header_compiles_again(cache, tiny):
    header = tiny.with_name("number.h")
    header.write_text("#define NUMBER 42\n")
    tiny.write_text('#include "number.h"\nextern "C" int answer() { return NUMBER; }\n')
    path = compiler.compile_library(tiny, compiler.find_compiler())
    assert ctypes.CDLL(str(path)).answer() == 42
    header.write_text("#define NUMBER 43\n")
    assert compiler.cached_library(tiny, compiler.find_compiler()) is None
    assert compiler.load_library(tiny, lambda path: ctypes.CDLL(str(path))).answer() == 43


@needs_compiler
@pytest.mark.parametrize("missing", (("-fopenmp",), ("-march=native",), ("-fopenmp", "-march=native")))
def test_flags_that_a_compiler_refuses_are_dropped(cache, tiny, tmp_path, missing, caplog):
    picky = tmp_path / "picky"
    refusals = "".join(
        f'case "$*" in *{flag}*) echo "unknown {flag}" >&2; exit 1;; esac\n' for flag in missing
    )
    picky.write_text(f'#!/bin/sh\n{refusals}exec {compiler.find_compiler()[0]} "$@"\n')
    picky.chmod(0o755)
    with caplog.at_level(logging.INFO, "radclear"):
        assert compiler.compile_library(tiny, [str(picky)]).is_file()
    assert f"unknown {missing[0]}" in caplog.text
    assert ("compiled without OpenMP" in caplog.text) == ("-fopenmp" in missing)


@needs_compiler
def test_what_does_not_compile_is_an_error_with_the_compilers_words(cache, tiny):
    tiny.write_text("this is not C++\n")
    with pytest.raises(compiler.CompileError, match="cannot compile tiny.cpp: .*error"):
        compiler.compile_library(tiny, compiler.find_compiler())
    assert list(cache.iterdir()) == []


@needs_compiler
def test_cache_that_cannot_be_written(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(compiler.CompileError, match="set XDG_CACHE_HOME to a folder that can"):
        compiler.compile_library(tiny, compiler.find_compiler())


@needs_compiler
def test_damaged_library_is_compiled_again(cache, tiny, monkeypatch):
    monkeypatch.setattr(c_kernel, "SOURCE", tiny)
    monkeypatch.setattr(c_kernel, "_open", lambda path: ctypes.CDLL(str(path)))
    path = compiler.compile_library(tiny, compiler.find_compiler())
    path.unlink()
    path.write_bytes(b"half a file")
    assert c_kernel._load().answer() == 42


def test_wanted_compiler_comes_from_the_environment(monkeypatch, tmp_path):
    own = tmp_path / "own"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("CXX", f"{own} -m64")
    assert compiler.find_compiler() == [str(own), "-m64"]
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler.find_compiler() is None


@needs_compiler
@pytest.mark.parametrize("flags", ((), ("-mavx2", "-mfma")))
def test_portable_vector_code_equals_the_loop(cache, monkeypatch, flags):
    """The kernel without the instructions of this machine: what it is on other ones."""
    if flags and "AVX2" not in describe("cpu"):
        pytest.skip(f"this is {describe('cpu')}")
    monkeypatch.setattr(compiler, "OPTIONAL_FLAGS", (flags,))
    library = c_kernel._open(compiler.compile_library(c_kernel.SOURCE, compiler.find_compiler()))
    monkeypatch.setattr(c_kernel, "_library", library)
    inputs = scan_inputs(batch=1, height=5, width=8, channels=18, states=4)
    grad_y = torch.ones_like(inputs[0])
    expected, expected_gradients = with_gradients(naive_scan_2d, [t.double() for t in inputs], 5, 8, grad_y)
    y, saved = c_kernel.forward(*inputs, 5, 8, True)
    assert relative_error(y, expected) <= 1e-6
    for gradient, wanted in zip(
        c_kernel.backward(grad_y, *inputs, saved, 5, 8), expected_gradients, strict=True
    ):
        assert relative_error(gradient, wanted) <= 1e-5
    factors = factor_inputs(batch=1, height=5, width=8, channels=18, states=4, rank=3)
    expected = naive_scan_of_factors(*factors, 5, 8)
    assert relative_error(c_kernel.forward_factors(*factors, 5, 8), expected) <= 1e-6
