"""Which studies lie under a path: one, or a folder of many."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from radclear.ct.errors import CTInputError
from radclear.ct.header import peek_study_uid
from radclear.ct.listing import (
    MOST_FILES_OF_STUDIES,
    file_source,
    is_zip,
    list_folder,
    named_like_dicom,
    volume_format,
)
from radclear.ct.sources import FileSource

_LOG = logging.getLogger(__name__)
_PEEK_CAP_BYTES = 2**30


@dataclass(frozen=True)
class StudySource:
    """Something that :func:`radclear.ct.read_study` can read.

    Attributes:
        name: path relative to the folder that was searched; the file's or folder's own name for a single
            study.
        path: what to read.
        key: name without anything that could identify a patient, safe as a file name.
        fingerprint: changes when a file below the path is added, removed, resized or touched.
    """

    name: str
    path: Path
    key: str
    fingerprint: str


def study_key(name: str) -> str:
    """A file name for a study's results that gives nothing away.

    Args:
        name: the study's name, see :class:`StudySource`.

    Returns:
        ``"study-"`` and 16 hexadecimal digits of the name's sha256.
    """
    return "study-" + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def find_studies(path: str | Path) -> list[StudySource]:
    """List the studies under a path, in a fixed order.

    A file of one of the kinds below is one study. A folder whose DICOM all belongs to one study (one header
    is looked at per folder) is one study, with its series in subfolders or not. Otherwise every immediate
    subfolder with DICOM is a study, and so is every zip and every volume file (NIfTI, NRRD, MHA) that does
    not lie beside DICOM. Hidden files are ignored.

    Args:
        path: a DICOM file, zip, volume file, or folder.

    Returns:
        The studies; empty where a folder holds none, or a file is neither DICOM, zip nor a volume.

    Raises:
        CTInputError: the path does not exist, or mixes loose DICOM files with folders of other studies.
    """
    path = Path(path)
    if path.is_file():
        source = file_source(path)
        return [_study(path.name, path, [source])] if _may_be_study(source) else []
    if not path.is_dir():
        raise CTInputError("path_not_found", "the path is neither a file nor a folder")
    files = list_folder(path, most=MOST_FILES_OF_STUDIES)
    uids = _peek_leaves(files)
    dicom_folders = set(uids)
    loose = [
        file
        for file in files
        if (volume_format(file.name) or is_zip(file.name)) and _folder(file) not in dicom_folders
    ]
    only_root = set(uids) == {""}
    same_study = len(set(uids.values())) == 1 and None not in uids.values()
    if only_root or (same_study and ("" in uids or not loose)):
        return [_study(path.resolve().name, path, files)]
    if "" in uids and len(uids) > 1:
        raise CTInputError(
            "ambiguous_layout",
            "DICOM files lie beside folders of other studies: move the loose files into a folder of their "
            "own",
        )
    studies = [_study(file.name, file.path, [file]) for file in loose]
    children: dict[str, list[FileSource]] = {}
    for file in files:
        child, slash, _ = file.name.partition("/")
        if slash:
            children.setdefault(child, []).append(file)
    for child in sorted({folder.split("/")[0] for folder in uids}):
        studies.append(_study(child, path / child, children[child], root=child))
    skipped = len(children.keys() - {study.name.split("/")[0] for study in studies})
    if skipped:
        _LOG.info("%d folders without DICOM, zip or volume files are no studies", skipped)
    return sorted(studies, key=lambda study: study.name)


def _may_be_study(file: FileSource) -> bool:
    """Whether a file would count as a study, or as a part of one, in a folder."""
    if volume_format(file.name) or is_zip(file.name) or named_like_dicom(file.name):
        return True
    return peek_study_uid(file, cap_bytes=_PEEK_CAP_BYTES) is not None


def _folder(file: FileSource) -> str:
    return file.name.rpartition("/")[0]


def _peek_leaves(files: Iterable[FileSource]) -> dict[str, str | None]:
    """StudyInstanceUID for each folder that directly holds DICOM; None where only unreadable DICOM lies
    there."""
    uids: dict[str, str | None] = {}
    for file in files:
        folder = _folder(file)
        if uids.get(folder) or volume_format(file.name) or is_zip(file.name):
            continue
        uid = peek_study_uid(file, cap_bytes=_PEEK_CAP_BYTES)
        if uid:
            uids[folder] = uid
        elif uid == "" or named_like_dicom(file.name):
            uids.setdefault(folder, None)
    return uids


def _study(name: str, path: Path, files: Iterable[FileSource], *, root: str = "") -> StudySource:
    digest = hashlib.sha256()
    for file in files:
        relative = file.name[len(root) + 1 :] if root else file.name
        digest.update(f"{relative}\0{file.size}\0{file.mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return StudySource(name, path, study_key(name), digest.hexdigest())
