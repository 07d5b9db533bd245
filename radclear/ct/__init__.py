"""Reading CT: series, geometry, Hounsfield units, windows. Nothing heavy is imported before it is used."""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "read_study": "read",
    "find_studies": "discovery",
    "study_key": "discovery",
    "StudySeries": "metadata",
    "choose_from_metadata": "metadata",
    "StudySource": "discovery",
    "Study": "study",
    "SeriesChoice": "study",
    "Finding": "study",
    "CTInputError": "errors",
    "Window": "windows",
    "ABDOMEN": "windows",
    "LUNG": "windows",
    "DEFAULT_WINDOWS": "windows",
    "apply_window": "windows",
    "slice_stack": "windows",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"radclear.ct.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
