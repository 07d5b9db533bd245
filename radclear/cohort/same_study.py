"""Tell two studies of the same name apart: their results and embeddings would go to the same file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from radclear.ct import StudySource


def study_identity(source: StudySource, *, series_hash: str) -> dict[str, str]:
    """What is kept beside a study's result to know the study again, without writing a path down.

    Args:
        source: the study.
        series_hash: see `radclear.ct.Study`.

    Returns:
        `fingerprint` of its files, `series_hash`, and `source_sha256`, of the place where it lies.
    """
    place = str(source.path.resolve()).encode("utf-8", "surrogateescape")
    return {
        "fingerprint": source.fingerprint,
        "series_hash": series_hash,
        "source_sha256": hashlib.sha256(place).hexdigest(),
    }


def is_other_study(kept: Mapping[str, Any], identity: Mapping[str, str]) -> bool:
    """Whether place, files and series are all others; where something was not kept, it is not known to be."""
    return all(name in kept and kept[name] != value for name, value in identity.items())
