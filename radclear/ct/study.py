"""A CT study in memory: Hounsfield units on one canonical grid, and what was noticed on the way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from radclear.ct.source_grid import SourceGrid


@dataclass(frozen=True)
class Finding:
    """Something about the input that a reader of the result should know.

    Attributes:
        code: stable identifier, for example ``"gap"`` or ``"duplicate"``.
        severity: ``"info"`` (nothing to worry about) or ``"warning"`` (refused under ``policy="strict"``).
        message: one sentence for people, without patient identifiers.
        slices: indices along z of the study that the finding is about, if any.
    """

    code: str
    severity: str
    message: str
    slices: tuple[int, ...] = ()


@dataclass(frozen=True)
class SeriesChoice:
    """Which series was read, out of how many, and why.

    Attributes:
        series_uid: SeriesInstanceUID, empty for NIfTI, NRRD and MHA.
        study_uid: StudyInstanceUID, empty likewise.
        reason: one sentence naming the rule that decided.
        n_candidates: how many axial CT series were there to choose from.
        source_format: ``"dicom"``, ``"nifti"``, ``"nrrd"`` or ``"mha"``.
    """

    series_uid: str
    study_uid: str
    reason: str
    n_candidates: int
    source_format: str


@dataclass(frozen=True)
class Study:
    """One CT series on the canonical grid.

    Attributes:
        hu: (z, y, x) int16 Hounsfield units; x grows to the patient's left, y to posterior, z to the head, so
            that ``hu[k]`` looks as on a radiologist's screen.
        affine: (4, 4) float64, voxel (x, y, z, 1) to LPS millimetres.
        z_mm: (z,) float64, LPS z of each slice's centre voxel; the truth where slices are unevenly spaced.
        sop_instance_uids: one per slice, or empty where the source has none.
        findings: what was noticed about the input.
        series: which series was chosen and why.
        path: where it was read from.
        source_grid: how a volume file stores its voxels; None for DICOM.
    """

    hu: np.ndarray
    affine: np.ndarray
    z_mm: np.ndarray
    sop_instance_uids: tuple[str, ...]
    findings: tuple[Finding, ...]
    series: SeriesChoice
    path: Path | None = None
    source_grid: SourceGrid | None = None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along x, y and z in millimetres."""
        return tuple(float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))

    @cached_property
    def series_hash(self) -> str:
        """sha256 over the pixels and the geometry: the key under which results of this series are cached."""
        digest = hashlib.sha256(np.asarray(self.hu.shape, np.int64).tobytes())
        digest.update(np.round(self.affine, 4).astype(np.float64).tobytes())
        digest.update(np.ascontiguousarray(self.hu))
        return digest.hexdigest()

    def without_pixels(self) -> Study:
        """The same study for whoever needs its geometry and hash only: `hu` has its shape, and holds zeros.

        A whole study may take hundreds of megabytes; this takes some kilobytes.
        """
        light = replace(self, hu=np.broadcast_to(np.int16(0), self.hu.shape))
        light.__dict__["series_hash"] = self.series_hash  # of the pixels that were read
        return light
