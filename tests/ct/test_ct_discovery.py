"""Which studies lie under a path, and that no archive or folder can lead out of it."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ct_synthetic import (
    SECRETS,
    make_slices,
    marked_phantom,
    save_all,
    torso,
    turned,
    write_nifti,
    write_series,
)

from radclear.ct import CTInputError, find_studies, read_study, study_key

ORIGINAL = dict(stored=(0, 1, 2), flips=(False,) * 3)


def zipped(folder, path, *, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def names(path) -> list[str]:
    return [study.name for study in find_studies(path)]


def test_one_study_with_its_series_in_subfolders(tmp_path):
    write_series(tmp_path / "patient" / "a", series=1)
    write_series(tmp_path / "patient" / "b", series=2)
    (study,) = find_studies(tmp_path / "patient")
    assert (study.name, study.path) == ("patient", tmp_path / "patient")
    assert study.key == study_key("patient") and re.fullmatch(r"study-[0-9a-f]{16}", study.key)


def test_a_folder_of_studies(tmp_path):
    for k in (3, 1, 2):
        write_series(tmp_path / f"case{k}" / "series", study=k)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("x" * 300)
    (tmp_path / ".cache").mkdir()
    assert names(tmp_path) == ["case1", "case2", "case3"]
    assert all(len(read_study(study.path).hu) == 6 for study in find_studies(tmp_path))


def test_broken_studies_are_listed_too(tmp_path):
    write_series(tmp_path / "good")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.dcm").write_bytes(os.urandom(3000))
    assert names(tmp_path) == ["broken", "good"]
    with pytest.raises(CTInputError):
        read_study(tmp_path / "broken")


def test_volume_files_and_zips_are_studies_of_their_own(tmp_path):
    hu, spacing, origin = marked_phantom()
    for name in ("b.nii", "sub/a.nii", "c.txt"):
        write_nifti(tmp_path / name, *turned(hu, spacing, origin, **ORIGINAL))
    zipped(write_series(tmp_path / "dicom"), tmp_path / "d.zip")
    write_nifti(tmp_path / "dicom" / "segmentation.nii", *turned(hu, spacing, origin, **ORIGINAL))
    assert names(tmp_path) == ["b.nii", "d.zip", "dicom", "sub/a.nii"]
    assert len(read_study(tmp_path / "dicom").hu) == 6


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"notes"),
        ("slice.png", b"\x89PNG\r\n\x1a\n"),
        ("IM0001", b""),
        ("table.csv", b"a,b\n1,2\n"),
    ],
)
def test_a_file_of_another_kind_is_no_study(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert find_studies(tmp_path / name) == find_studies(tmp_path) == []


@pytest.mark.parametrize("name", ["scan.dcm", "scan.zip", "scan.nii.gz", "scan.mha"])
def test_a_broken_file_of_a_known_kind_is_a_study(tmp_path, name):
    (tmp_path / name).write_bytes(b"broken")
    assert len(find_studies(tmp_path / name)) == len(find_studies(tmp_path)) == 1


@pytest.mark.parametrize("name", ["ct.nii", "one.dcm", "all.zip"])
def test_a_single_file_is_one_study(tmp_path, name):
    (tmp_path / name).write_bytes(b"whatever")
    assert names(tmp_path / name) == [name]


def test_loose_files_beside_other_studies_are_not_guessed_about(tmp_path):
    write_series(tmp_path)
    write_series(tmp_path / "other", study=2)
    with pytest.raises(CTInputError, match="move the loose files") as caught:
        find_studies(tmp_path)
    assert caught.value.code == "ambiguous_layout"
    with pytest.raises(CTInputError) as caught:
        find_studies(tmp_path / "nowhere")
    assert caught.value.code == "path_not_found"


def test_the_fingerprint_follows_the_files(tmp_path):
    write_series(tmp_path / "s")
    (before,) = find_studies(tmp_path / "s")
    assert find_studies(tmp_path / "s") == [before]
    victim = next((tmp_path / "s").iterdir())
    os.utime(victim, ns=(1, 1))
    (touched,) = find_studies(tmp_path / "s")
    victim.unlink()
    (removed,) = find_studies(tmp_path / "s")
    assert len({before.fingerprint, touched.fingerprint, removed.fingerprint}) == 3
    assert before.key == removed.key


def test_keys_hide_names():
    assert study_key("DOE^JANE/1952") != study_key("DOE^JANE/1953")
    assert "DOE" not in study_key("DOE^JANE/1952")


def test_a_zip_reads_like_its_folder(tmp_path):
    hu = torso((9, 32, 32))
    folder = write_series(tmp_path / "s", hu)
    study = read_study(zipped(folder, tmp_path / "s.zip", prefix="export/DICOM/"))
    assert study.series_hash == read_study(folder).series_hash
    volume, spacing, origin = marked_phantom()
    nifti = write_nifti(tmp_path / "n" / "v.nii", *turned(volume, spacing, origin, **ORIGINAL)).parent
    np.testing.assert_array_equal(read_study(zipped(nifti, tmp_path / "n.zip")).hu, volume)


def add(archive, name, content=b"x", mode=0o100644, **attributes):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    for key, value in attributes.items():
        setattr(info, key, value)
    archive.writestr(info, content)


@pytest.mark.parametrize(
    "attack",
    [
        lambda z: add(z, "../outside.dcm"),
        lambda z: add(z, "a/../../outside.dcm"),
        lambda z: add(z, "/etc/passwd"),
        lambda z: add(z, "..\\outside.dcm"),
        lambda z: add(z, "C:/windows/a.dcm"),
        lambda z: add(z, "link.dcm", b"/etc/passwd", stat.S_IFLNK | 0o777),
        lambda z: add(z, "bomb.dcm", bytes(2_000_000), compress_type=zipfile.ZIP_DEFLATED),
    ],
)
def test_unsafe_zips_are_refused(tmp_path, attack):
    path = zipped(write_series(tmp_path / "s"), tmp_path / "s.zip")
    with zipfile.ZipFile(path, "a") as archive:
        attack(archive)
    with pytest.raises(CTInputError) as caught:
        read_study(path, memory_cap_bytes=1_000_000)
    assert caught.value.code == "unsafe_archive"


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path):
    """The directory promises little, the stream inflates to much."""
    path = tmp_path / "s.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(5_000_000))
    raw = bytearray(path.read_bytes())
    for signature, field in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = raw.index(signature) + field
        raw[at : at + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(CTInputError) as caught:
        read_study(path, memory_cap_bytes=1_000_000)
    assert caught.value.code in ("unsafe_archive", "unreadable")


def test_damaged_and_encrypted_zips(tmp_path):
    path = zipped(write_series(tmp_path / "s"), tmp_path / "s.zip")
    raw = bytearray(path.read_bytes())
    (tmp_path / "cut.zip").write_bytes(raw[:-30])
    at = raw.index(b"PK\x01\x02") + 8
    raw[at] |= 1
    (tmp_path / "locked.zip").write_bytes(raw)
    for name, code in (("cut.zip", "unreadable"), ("locked.zip", "unsafe_archive")):
        with pytest.raises(CTInputError) as caught:
            read_study(tmp_path / name)
        assert caught.value.code == code


def test_links_to_folders_are_not_followed_and_pipes_not_opened(tmp_path, caplog):
    write_series(tmp_path / "elsewhere", study=2)
    write_series(tmp_path / "s")
    (tmp_path / "s" / "loop").symlink_to(tmp_path / "s")
    (tmp_path / "s" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "s" / "dangling.dcm").symlink_to(tmp_path / "nowhere")
    (tmp_path / "s" / "round").symlink_to(tmp_path / "s" / "round")
    os.mkfifo(tmp_path / "s" / "pipe.dcm")
    assert len(read_study(tmp_path / "s").hu) == 6
    assert names(tmp_path / "s") == ["s"]
    (said,) = caplog.messages  # once, of both looks
    assert said.startswith("links to folders are not followed (2 here)") and str(tmp_path) not in said
    caplog.clear()
    assert len(read_study(tmp_path / "elsewhere").hu) == 6
    assert not caplog.messages


def test_nothing_that_identifies_a_patient_comes_out(tmp_path):
    """Neither names in tags nor names of files get into findings, reasons or errors."""
    slices = make_slices(torso((9, 32, 32)))
    del slices[4]
    slices[0].InstanceNumber, slices[1].InstanceNumber = 2, 1
    folder = save_all(slices, tmp_path / "Doe^Jane" / "19521103")
    (folder / "MRN-4711.dcm").write_bytes(b"\0" * 128 + b"DICM" + os.urandom(300))
    (folder / "MRN-4711.txt").write_text("Doe^Jane " * 30)
    study = read_study(folder)
    said = [finding.message for finding in study.findings] + [study.series.reason]
    slices[0].PixelSpacing = ["1", "2"]
    slices[0]["PixelSpacing"].VR = "LO"
    slices[0].PixelSpacing = "Doe^Jane"
    for k, tag in enumerate(("Modality", "RescaleSlope", "SeriesInstanceUID", "ImageType", "Rows")):
        spoiled = make_slices(torso((3, 32, 32)))
        for tags in spoiled:
            tags.add_new(tag, "LO", "Doe^Jane MRN-4711")
        with pytest.raises(CTInputError) as caught:
            read_study(save_all(spoiled, tmp_path / "Doe^Jane" / str(k)))
            raise CTInputError("unreadable", "")  # an odd ImageType is no reason to refuse
        said.append(str(caught.value))
    with pytest.raises(CTInputError) as caught:
        read_study(folder, policy="strict")
    said.append(str(caught.value))
    assert len(said) > 8
    for text in said:
        assert not any(secret in text for secret in SECRETS), text


@pytest.mark.parametrize("name", [".", "./."])
def test_a_zip_member_without_a_name_of_its_own_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"0")
    with pytest.raises(CTInputError) as caught:
        read_study(tmp_path / "study.zip")
    assert caught.value.code == "unsafe_archive"


def test_a_file_that_goes_while_it_is_looked_at_is_not_found(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda self: True)  # as it was a moment ago
    with pytest.raises(CTInputError, match="cannot be looked at: No such file") as caught:
        find_studies(tmp_path / "gone.nii.gz")
    assert caught.value.code == "path_not_found"


def test_a_folder_of_studies_may_hold_more_files_than_one_study(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_series(tmp_path / name, study=ord(name))
    monkeypatch.setattr("radclear.ct.listing.list_folder.__kwdefaults__", {"most": 6})
    assert names(tmp_path) == ["a", "b"] and len(read_study(tmp_path / "a").hu) == 6
    with pytest.raises(CTInputError, match="more than 6 files: name a folder further down") as caught:
        read_study(tmp_path)
    assert caught.value.code == "too_many_files"
    monkeypatch.setattr("radclear.ct.discovery.MOST_FILES_OF_STUDIES", 11)
    with pytest.raises(CTInputError, match="more than 11 files"):
        names(tmp_path)
