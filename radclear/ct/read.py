"""The way in: a path to a :class:`Study`, or an error that says what to do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from radclear.ct.axes import stored_view
from radclear.ct.errors import CTInputError
from radclear.ct.geometry import Grid, solve
from radclear.ct.header import read_header
from radclear.ct.listing import file_source, is_zip, list_folder, named_like_dicom, opened_zip, volume_format
from radclear.ct.pixels import check_decodable, fill, read_stored_bytes
from radclear.ct.plausibility import check_values, plausibility_findings
from radclear.ct.series import choose
from radclear.ct.sources import ByteSource, FileSource
from radclear.ct.study import Finding, SeriesChoice, Study
from radclear.ct.volume_files import read_volume

POLICIES = ("strict", "warn")
DEFAULT_CAP_BYTES = 8 * 2**30


def read_study(
    path: str | Path,
    *,
    series: str | None = None,
    policy: str = "warn",
    memory_cap_bytes: int = DEFAULT_CAP_BYTES,
) -> Study:
    """Read a CT study into Hounsfield units on the canonical grid.

    Args:
        path: a folder of DICOM (searched recursively), a zip of such, one DICOM file, or a NIfTI, NRRD or MHA
            file.
        series: SeriesInstanceUID to read; chosen by the rules of ``radclear.ct.series.RULES`` when omitted.
        policy: ``"warn"`` puts what was noticed into the study's findings, ``"strict"`` refuses on any
            warning.
        memory_cap_bytes: refuse before decoding what would need more; checked on rows × columns × frames.

    Returns:
        The study.

    Raises:
        CTInputError: the input is no readable CT; ``code`` is one of ``radclear.ct.errors.CODES``.
        MissingDependencyError: a volume file, and ITK is not installed.
        ValueError: an unknown policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy is {policy!r}, expected one of {', '.join(POLICIES)}")
    path = Path(path)
    if path.is_dir():
        return _read_listing(path, list_folder(path), series, policy, memory_cap_bytes)
    if not path.is_file():
        raise CTInputError("path_not_found", "the path is neither a file nor a folder")
    if is_zip(path.name):
        with opened_zip(path, cap_bytes=memory_cap_bytes) as members:
            return _read_listing(path, members, series, policy, memory_cap_bytes)
    return _read_listing(path, [file_source(path)], series, policy, memory_cap_bytes)


def _read_listing(
    path: Path, sources: Sequence[ByteSource], series: str | None, policy: str, cap_bytes: int
) -> Study:
    volumes = [source for source in sources if volume_format(source.name)]
    others = [source for source in sources if not volume_format(source.name) and not is_zip(source.name)]
    if others or not volumes:
        entries = [read_header(source, index, cap_bytes=cap_bytes) for index, source in enumerate(others)]
        only_other_files = not any(isinstance(entry, list) for entry in entries) and not any(
            named_like_dicom(source.name) for source in others
        )
        if not (volumes and only_other_files):
            study = _read_dicom(path, entries, series, policy, cap_bytes)
            return _judged(study, _ignored_volumes(volumes), policy)
    if len(volumes) > 1:
        raise CTInputError(
            "ambiguous_layout", f"{len(volumes)} volume files: name one of them, or use find_studies"
        )
    if series is not None:
        raise CTInputError("series_not_found", "a volume file has no SeriesInstanceUID to choose by")
    return _judged(_read_volume_file(path, volumes[0], cap_bytes), [], policy)


def _ignored_volumes(volumes: Sequence[ByteSource]) -> list[Finding]:
    if not volumes:
        return []
    return [
        Finding(
            "ignored_files", "info", f"{len(volumes)} volume files beside the DICOM files were left aside"
        )
    ]


def _read_dicom(path: Path, entries: Sequence, series: str | None, policy: str, cap_bytes: int) -> Study:
    stack, choice, findings = choose(entries, series=series)
    first = stack.headers[0]
    needed = first.rows * first.columns * len(stack.headers) * 2
    if needed > cap_bytes:
        raise CTInputError(
            "too_large",
            f"{len(stack.headers)} slices of {first.rows} x {first.columns} need {needed} bytes, above the "
            f"cap of {cap_bytes}",
        )
    grid = solve(stack.headers)
    findings += grid.findings
    _refuse(findings, policy)
    check_decodable(stack.headers)
    findings += _different_duplicates(grid)
    hu = np.empty(grid.shape, np.int16)
    fill(stored_view(hu, grid.axes), grid.headers)
    sop_uids = tuple(header.sop_uid for header in grid.headers) if grid.plane == "axial" else ()
    return Study(hu, grid.affine, grid.z_mm, sop_uids, tuple(findings), choice, path)


def _different_duplicates(grid: Grid) -> list[Finding]:
    differing = sum(read_stored_bytes(kept) != read_stored_bytes(other) for kept, other in grid.duplicates)
    if not differing:
        return []
    return [
        Finding(
            "duplicate_differs", "warning", f"{differing} slices that share a position hold different pixels"
        )
    ]


def _read_volume_file(path: Path, source: ByteSource, cap_bytes: int) -> Study:
    kind = volume_format(source.name)
    if isinstance(source, FileSource):
        volume = read_volume(source.path, kind, cap_bytes=cap_bytes)
    else:
        with tempfile.TemporaryDirectory(prefix="radclear-") as folder, source.open() as stream:
            suffix = (
                ".nii.gz"
                if source.name.lower().endswith(".gz")
                else "." + source.name.rpartition(".")[2].lower()
            )
            unpacked = Path(folder) / f"volume{suffix}"
            unpacked.write_bytes(stream.read())
            volume = read_volume(unpacked, kind, cap_bytes=cap_bytes)
    check_values(volume.hu, lowest=volume.lowest, highest=volume.highest)
    choice = SeriesChoice("", "", "the only volume", 1, kind)
    return Study(volume.hu, volume.affine, volume.z_mm, (), volume.findings, choice, path, volume.source_grid)


def _judged(study: Study, more: Iterable[Finding], policy: str) -> Study:
    """The study with what its values say, or the refusal of a strict policy."""
    findings = (*study.findings, *more, *plausibility_findings(study.hu, study.spacing_mm))
    _refuse(findings, policy)
    return replace(study, findings=findings)


def _refuse(findings: Iterable[Finding], policy: str) -> None:
    warnings = [finding for finding in findings if finding.severity == "warning"]
    if policy == "strict" and warnings:
        reasons = "; ".join(f"{finding.code}: {finding.message}" for finding in warnings)
        raise CTInputError(
            "refused_by_policy", f"refused by policy 'strict': {reasons}", findings=tuple(findings)
        )
