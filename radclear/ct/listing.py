"""What lies in a folder or a zip: safe, sorted, without hidden files, links to folders or archive tricks."""

from __future__ import annotations

import logging
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath

from radclear.ct.errors import CTInputError
from radclear.ct.sources import ByteSource, FileSource, ZipMember

logger = logging.getLogger(__name__)

#: What one study, and a folder of many, can sensibly have.
MOST_FILES = 100_000
MOST_FILES_OF_STUDIES = 100 * MOST_FILES
VOLUME_SUFFIXES = {".nii": "nifti", ".nii.gz": "nifti", ".nrrd": "nrrd", ".mha": "mha"}
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})


def volume_format(name: str) -> str | None:
    """``"nifti"``, ``"nrrd"`` or ``"mha"`` by the file name's ending, None for anything else."""
    lower = name.lower()
    return next((kind for suffix, kind in VOLUME_SUFFIXES.items() if lower.endswith(suffix)), None)


def is_zip(name: str) -> bool:
    """Whether a file is taken for a zip by its name."""
    return name.lower().endswith(".zip")


def named_like_dicom(name: str) -> bool:
    """Whether a file's ending promises DICOM."""
    return PurePosixPath(name).suffix.lower() in DICOM_SUFFIXES


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def list_folder(root: Path, *, most: int = MOST_FILES) -> list[FileSource]:
    """All regular files below a folder, sorted by relative path.

    Hidden files and folders are left out; links to folders are not followed, which a warning says; and
    nothing is opened.

    Args:
        root: the folder.
        most: how many files there may be: those of a study unless told otherwise.

    Raises:
        CTInputError: there are more.
    """
    files: list[FileSource] = []
    links = 0
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise CTInputError("path_not_found", f"a folder cannot be listed: {error.strerror}") from None
        for entry in entries:
            if _hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
                continue
            try:
                status = entry.stat()
            except OSError:  # a link that leads nowhere, or to itself
                continue
            links += stat.S_ISDIR(status.st_mode)
            if stat.S_ISREG(status.st_mode):
                path = Path(entry.path)
                files.append(
                    FileSource(path, path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns)
                )
        if len(files) > most:
            raise CTInputError("too_many_files", f"more than {most} files: name a folder further down")
    if links:
        _tell_of_links(root, links)
    return sorted(files, key=lambda file: file.name)


@lru_cache(maxsize=256)
def _tell_of_links(root: Path, n_links: int) -> None:
    """Once for each folder, however often it is looked at, that studies behind links are left out."""
    logger.warning(
        "links to folders are not followed (%d here), so that nothing outside the folder is read; name the "
        "folder that they lead to, or copy what is there",
        n_links,
    )


def file_source(path: Path) -> FileSource:
    """A single file as the user named it.

    Raises:
        CTInputError: it is not there any more, or cannot be looked at.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise CTInputError("path_not_found", f"the file cannot be looked at: {error.strerror}") from None
    return FileSource(path, path.name, status.st_size, status.st_mtime_ns)


@contextmanager
def opened_zip(path: Path, *, cap_bytes: int) -> Iterator[Sequence[ByteSource]]:
    """The checked members of a zip, sorted by name; they can be opened until the context ends.

    Args:
        path: the archive.
        cap_bytes: largest sum of the inflated members.

    Raises:
        CTInputError: the archive is damaged or a member has an absolute name, climbs out with "..", is a
        link, is
            encrypted, or all together inflate beyond the cap.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CTInputError("unreadable", f"the zip cannot be opened ({type(error).__name__})") from None
    with archive:
        yield _members(archive, cap_bytes)


def _members(archive: zipfile.ZipFile, cap_bytes: int) -> list[ZipMember]:
    infos = archive.infolist()
    if len(infos) > MOST_FILES:
        raise CTInputError("too_many_files", f"the zip has more than {MOST_FILES} members")
    members = [_member(archive, info) for info in infos if not info.filename.endswith("/")]
    total = sum(member.size for member in members)
    if total > cap_bytes:
        raise CTInputError(
            "unsafe_archive", f"the zip inflates to {total} bytes, above the cap of {cap_bytes}"
        )
    visible = [m for m in members if not any(_hidden(part) for part in PurePosixPath(m.name).parts)]
    return sorted(visible, key=lambda member: member.name)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> ZipMember:
    name = info.filename.replace("\\", "/")
    path = PurePosixPath(name)
    mode = info.external_attr >> 16
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise CTInputError("unsafe_archive", "the zip has a member whose name leads out of the archive")
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        raise CTInputError("unsafe_archive", "the zip has a member that is a link or a device")
    if info.flag_bits & 0x1:
        raise CTInputError("unsafe_archive", "the zip is encrypted: unpack it first")
    return ZipMember(archive, info, name, info.file_size)
