"""Compile a C++ source once into the user's cache, safely under several processes.

The file name is keyed by source, flags and CPU (what decides whether the code runs here) and by the
compiler. A library is written under a temporary name and renamed, so that no process ever sees half a file.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

COMPILERS = ("g++", "clang++", "c++", "gcc", "clang", "cc")
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC", "-w")
# Wanted, dropped one after the other where a compiler refuses them. Never -ffast-math: it breaks rounding by
# a magic constant and switches denormals off for the whole process.
OPTIONAL_FLAGS = (("-march=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())
TIMEOUT_SECONDS = 300
NO_COMPILER = "no C++ compiler found on PATH or in $CXX: install g++ or clang"


class CompileError(RadclearError):
    """A kernel could not be compiled; the message holds the compiler's own."""


def find_compiler() -> list[str] | None:
    """The C++ compiler as an argument list: $CXX, or the first of the usual names on PATH, or None."""
    wanted = shlex.split(os.environ.get("CXX", ""))
    if wanted and shutil.which(wanted[0]):
        return wanted
    for name in COMPILERS:
        found = shutil.which(name)
        if found:
            return [found]
    return None


def cache_folder() -> Path:
    """Where compiled kernels are kept: $XDG_CACHE_HOME/radclear/scan, by default under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base and os.path.isabs(base) else Path("~/.cache").expanduser()
    return root / "radclear" / "scan"


def cached_library(source: Path, compiler: list[str] | None) -> Path | None:
    """A library that was compiled earlier for this source and CPU, or None.

    Args:
        source: the C++ file.
        compiler: its own library is preferred; with None (no compiler here) any compiler's will do.
    """
    if compiler is not None:
        path = _library_path(source, compiler)
        return path if path.is_file() else None
    found = sorted(cache_folder().glob(f"{source.stem}-{_target_key(source)}-*.so"))
    return found[0] if found else None


def load_library(source: Path, open_library: Callable[[Path], ctypes.CDLL]) -> ctypes.CDLL:
    """A source's library from the cache, compiled where it is not there or damaged.

    Args:
        source: the C++ file.
        open_library: loads a library and declares its functions; raises OSError where the file is no library.

    Raises:
        CompileError: as :func:`compile_library`, or there is neither a compiler nor a library.
        OSError: the library of the cache cannot be loaded and there is no compiler.
    """
    compiler = find_compiler()
    path = cached_library(source, compiler)
    if path is not None:
        try:
            return open_library(path)
        except OSError:
            if compiler is None:
                raise
    if compiler is None:
        raise CompileError(NO_COMPILER)
    return open_library(compile_library(source, compiler))


def compile_library(source: Path, compiler: list[str]) -> Path:
    """Compile a source into the cache.

    Args:
        source: the C++ file.
        compiler: as :func:`find_compiler` gives it.

    Returns:
        Path of the shared library.

    Raises:
        CompileError: the cache cannot be written, or no set of flags compiles.
    """
    path = _library_path(source, compiler)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".so", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise CompileError(
            f"the cache folder {path.parent} cannot be written ({error}): "
            "set XDG_CACHE_HOME to a folder that can"
        ) from error
    try:
        flags = _compile(source, compiler, temporary)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    if "-fopenmp" not in flags:
        logger.warning("%s was compiled without OpenMP and runs on one thread", source.name)
    return path


def _compile(source: Path, compiler: list[str], target: str) -> tuple[str, ...]:
    """Try the sets of flags in turn; return the set that worked."""
    message = ""
    for optional in OPTIONAL_FLAGS:
        start = time.perf_counter()
        command = [*compiler, *FLAGS, *optional, str(source), "-o", target]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompileError(f"{shlex.join(compiler)} did not run: {error}") from error
        if run.returncode == 0:
            seconds = time.perf_counter() - start
            logger.info("compiled %s in %.1f s: %s", source.name, seconds, shlex.join(command[:-3]))
            return optional
        message = run.stderr.strip()
        logger.info("%s refuses %s: %s", compiler[0], " ".join(optional) or "the plain flags", message[-500:])
    raise CompileError(f"{shlex.join(compiler)} cannot compile {source.name}: {message[-500:]}")


def _library_path(source: Path, compiler: list[str]) -> Path:
    program = os.path.realpath(shutil.which(compiler[0]) or compiler[0])
    try:
        stat = os.stat(program)
        version = f"{stat.st_size} {stat.st_mtime_ns}"  # changes with the compiler, without starting it
    except OSError:
        version = "unknown"
    compiler_key = _digest(program, version, *compiler[1:])
    return cache_folder() / f"{source.stem}-{_target_key(source)}-{compiler_key}.so"


def _target_key(source: Path) -> str:
    return _digest(*_texts(source), repr((FLAGS, OPTIONAL_FLAGS)), _cpu())


def _texts(source: Path) -> list[str]:
    """The source and the headers beside it or elsewhere that it includes by name."""
    text = source.read_text(encoding="utf-8")
    names = re.findall(r'^#include "(.+)"$', text, re.MULTILINE)
    return [text, *(part for name in names for part in _texts(source.parent / name))]


def _cpu() -> str:
    """What -march=native depends on: model and instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    names = ("model name", "flags", "Features", "CPU part")
    found = [line for line in lines if line.split(":")[0].strip() in names]
    return "\n".join([platform.machine(), *(found or [platform.processor()])])


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
