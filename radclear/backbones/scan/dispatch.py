"""Choose the tier that runs the scan: by device first, then the fastest that works there.

The choice and the reasons against the faster tiers are logged once. RADCLEAR_SCAN forces a tier; a tier
that was asked for and cannot run is an error, never a quiet fallback.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import threading
from types import ModuleType

from radclear.backbones.scan.errors import ScanUnavailableError
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

VARIABLE = "RADCLEAR_SCAN"
MODULES = {
    "c": "c_kernel",
    "numba": "numba_kernel",
    "slab": "slab",
    "mamba": "mamba_adapter",
    "triton": "triton_kernel",
}
# Fastest first, as measured (docs/explanation/speed.md); other devices: slab.
PREFERENCE = {"cpu": ("c", "numba", "slab"), "cuda": ("triton", "mamba", "slab")}
HOME_DEVICE = {"c": "cpu", "numba": "cpu", "slab": "cpu", "mamba": "cuda", "triton": "cuda"}

_lock = threading.RLock()


def available_scans() -> dict[str, str]:
    """What each tier says about running here, on the device it is made for; compiles nothing.

    Returns:
        tier -> "available", or the reason why not.
    """
    answers = {}
    for name, device_type in HOME_DEVICE.items():
        try:
            tier_module(name).probe(device_type)
            answers[name] = "available"
        except RadclearError as error:
            answers[name] = str(error)
    return answers


def choose(device_type: str) -> ModuleType:
    """The module of the tier that scans on a device: the forced one, else the fastest that works.

    Args:
        device_type: ``tensor.device.type``.

    Raises:
        ScanUnavailableError: RADCLEAR_SCAN names no tier, or one that cannot run here.
        MissingDependencyError: RADCLEAR_SCAN names a tier whose package is not installed.
    """
    return _choose(device_type, os.environ.get(VARIABLE, "").strip().lower())


def tier_module(name: str) -> ModuleType:
    """The module of a tier: probe, prepare, forward, backward, KEEPS_STATES."""
    return importlib.import_module(f"{__package__}.{MODULES[name]}")


@functools.cache
def _choose(device_type: str, forced: str) -> ModuleType:
    with _lock:
        return _forced(device_type, forced) if forced else _fastest(device_type)


def _forced(device_type: str, name: str) -> ModuleType:
    if name not in MODULES:
        raise ScanUnavailableError(f"{VARIABLE}={name} is none of {', '.join(MODULES)}")
    module = tier_module(name)
    try:
        module.prepare(device_type)
    except ScanUnavailableError as error:
        raise ScanUnavailableError(
            f"{VARIABLE}={name} cannot run on {device_type}: {error}. Unset it to let radclear choose."
        ) from error
    logger.info("selective scan on %s: %s, forced by %s", device_type, name, VARIABLE)
    return module


def _fastest(device_type: str) -> ModuleType:
    reasons = []
    for name in PREFERENCE.get(device_type, ("slab",)):
        module = tier_module(name)
        try:
            module.prepare(device_type)
        except RadclearError as error:
            reasons.append(f"{name}: {error}")
            continue
        against = f" (not used: {'; '.join(reasons)})" if reasons else ""
        logger.info("selective scan on %s: %s%s", device_type, name, against)
        return module
    raise ScanUnavailableError(f"no selective scan runs on {device_type}: {'; '.join(reasons)}")
