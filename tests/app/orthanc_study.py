"""A study of several series for an archive, from a phantom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass
class ArchiveStudy:
    """Files and identifiers of a study.

    Attributes:
        uid: StudyInstanceUID.
        files: name of a series → its files: `long`, `short` and `coronal`, which cannot be read.
        series: name of a series → SeriesInstanceUID.
        sops: SOPInstanceUIDs of `long`, from the feet to the head.
    """

    uid: str
    files: dict[str, list[Path]]
    series: dict[str, str]
    sops: list[str]

    @property
    def all_files(self) -> list[Path]:
        return [file for files in self.files.values() for file in files]


def write_archive_study(folder: Path, *, seed: int = 11, n_slices: int = 24, size: int = 64) -> ArchiveStudy:
    """Write a study with a long axial series, a shorter one, and three coronal slices."""
    from pydicom import dcmread

    from radclear.phantom import make_phantom, write_dicom

    written = write_dicom(make_phantom(seed, n_slices=n_slices, size=size), folder / "long")
    headers = [dcmread(file) for file in written]
    found = ArchiveStudy(headers[0].StudyInstanceUID, {"long": written}, {}, [])
    found.series["long"] = headers[0].SeriesInstanceUID
    found.sops = [header.SOPInstanceUID for header in headers]
    others = {"short": headers[4:14], "coronal": headers[:3]}
    for number, (name, chosen) in enumerate(others.items(), start=3):
        found.series[name] = f"{found.series['long'][:50]}.{number}"
        found.files[name] = []
        (folder / name).mkdir()
        for k, header in enumerate(chosen):
            header.SeriesInstanceUID, header.SeriesNumber = found.series[name], number
            header.SOPInstanceUID = f"{found.series[name]}.{k + 1}"
            header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
            if name == "coronal":
                header.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
                header.ImagePositionPatient = [0, 12.0 * k, 0]
            path = folder / name / f"{k}.dcm"
            header.save_as(path, write_like_original=False)
            found.files[name].append(path)
    return found
