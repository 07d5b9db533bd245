"""Studies have ids that name nobody, originals are left alone, and uploads are read before they are kept."""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import threading
import zipfile
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from app_server import TRACES, needs_monailabel, write_long_study
from lib.labels import LabelError, LabelFiles
from lib.log_privacy import PrivateLog
from lib.studies import StudyIndex, UnknownStudyError
from lib.uploads import TakenError, UploadError, UploadLimits, Uploads
from lib.volumes import VolumeFiles

from radclear.ct import find_studies, read_study, study_key

LIMITS = UploadLimits(largest_bytes=2**20, all_bytes=3 * 2**20, memory_cap_bytes=2**28)


def tree(folder) -> dict[str, tuple[int, int]]:
    return {
        str(file.relative_to(folder)): (file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
    }


@pytest.fixture
def index(small_studies, tmp_path):
    return StudyIndex(small_studies, tmp_path / "uploads", limits=LIMITS)


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> bytes:
    """A small NIfTI file that is a study."""
    return write_long_study(tmp_path_factory.mktemp("scan") / "v.nii.gz", n_slices=8).read_bytes()


def test_dicom_and_files_are_found_under_hashes(index, small_studies):
    before = tree(small_studies)
    assert index.ids() == sorted(map(study_key, ("DOE^JANE_0", "DOE^BROKEN", "ROE_RICHARD.nii.gz")))
    source = index.find(study_key("ROE_RICHARD.nii.gz"))
    assert source.path == small_studies / "ROE_RICHARD.nii.gz"
    assert index.find("ROE_RICHARD.nii.gz") == source  # who knows the name may use it
    assert tree(small_studies) == before


@pytest.mark.parametrize("image", ["", "..", "/etc/passwd", "../uploads", "study-0000", "DOE^JANE_0/x", "."])
def test_nothing_but_an_id_or_a_name_finds_a_study(index, image):
    with pytest.raises(UnknownStudyError) as caught:
        index.find(image)
    assert len(image) < 3 or image not in str(caught.value)


def test_a_folder_that_cannot_be_read_any_more_keeps_what_was_known(small_studies, tmp_path):
    moved = tmp_path / "studies"
    moved.mkdir()
    (moved / "a.nii").write_bytes(b"x")
    index = StudyIndex(moved, tmp_path / "uploads", limits=LIMITS)
    known = index.ids()
    (moved / "a.nii").unlink()
    moved.rmdir()
    index.rescan()
    assert index.ids() == known and len(known) == 1


def test_one_study_alone_has_the_id_that_it_has_among_others(tmp_path, small_studies):
    import shutil

    studies = tmp_path / "studies"
    shutil.copytree(small_studies / "DOE^JANE_0", studies / "DOE^JANE_0")
    index = StudyIndex(studies, tmp_path / "uploads", limits=LIMITS)
    assert index.ids() == [study_key("DOE^JANE_0")]
    shutil.copy(small_studies / "ROE_RICHARD.nii.gz", studies)
    index.rescan()
    assert study_key("DOE^JANE_0") in index.ids() and len(index.ids()) == 2


def test_links_out_of_the_folder_are_left_out(tmp_path, small_studies):
    studies = tmp_path / "studies"
    studies.mkdir()
    os.symlink(small_studies / "ROE_RICHARD.nii.gz", studies / "linked.nii.gz")
    assert StudyIndex(studies, tmp_path / "uploads", limits=LIMITS).ids() == []


@needs_monailabel
def test_a_study_that_goes_while_the_store_is_listed_is_listed_once_more(small_studies, tmp_path):
    from lib.datastore import StudyDatastore

    folder = tmp_path / "studies"
    shutil.copytree(small_studies, folder)
    index = StudyIndex(folder, tmp_path / "uploads", limits=LIMITS)

    def name(source):  # asked for at each study: at the first, all go, and the folder is looked at again
        for file in folder.iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        index.rescan()
        return f"{source.key}.nrrd"

    labels = LabelFiles(tmp_path / "labels")
    store = StudyDatastore(index, SimpleNamespace(name=name), labels, failures=None)
    known = index.ids()
    assert list(store.json()["objects"]) == known and len(known) == 3
    assert store.json()["objects"] == {}


def test_an_upload_is_kept_under_its_hash_and_found_again(index, scan, tmp_path):
    key = index.add("MEIER^HANS", ".nii.gz", io.BytesIO(scan))
    assert key == study_key("MEIER^HANS") and index.find("MEIER^HANS").key == key
    assert [file.name for file in index.uploads.folder.iterdir()] == [f"{key}.nii.gz"]
    assert read_study(index.find(key).path).hu.shape[0] == 8
    again = StudyIndex(None, index.uploads.folder, limits=LIMITS)
    assert again.ids() == [key] and again.find("MEIER^HANS").key == key
    with pytest.raises(UploadError, match="not replaced") as caught:
        index.add("MEIER^HANS", ".nii.gz", io.BytesIO(scan))
    assert caught.value.status == 409


def bomb() -> bytes:
    """A header that promises 30000 x 30000 x 30000 voxels."""
    header = bytearray(352)
    header[:4] = (348).to_bytes(4, "little")
    for place, value in enumerate((3, 30000, 30000, 30000, 1, 1, 1, 1)):
        header[40 + 2 * place : 42 + 2 * place] = value.to_bytes(2, "little")
    header[70:72], header[72:74] = (4).to_bytes(2, "little"), (16).to_bytes(2, "little")
    import struct

    header[76:108] = struct.pack("<8f", 1, 1, 1, 1, 1, 1, 1, 1)
    header[108:112] = struct.pack("<f", 352)
    header[252:256] = struct.pack("<2h", 0, 1)
    header[280:328] = struct.pack("<12f", 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header), mtime=0)


def climbing_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../../escaped.dcm", b"x")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("suffix", "content", "status", "match"),
    [
        (".nii.gz", b"", 422, "NIfTI"),
        (".nii.gz", b"\x1f\x8b" + b"x" * 500, 422, "damaged"),
        (".nii", random.Random(0).randbytes(2000), 422, "no single-file NIfTI"),
        (".nrrd", b"NRRD0004\ndata file: /etc/passwd\n\n", 422, "another file"),
        (".mha", b"NDims = 3\nElementDataFile = /etc/passwd\n", 422, "another file"),
        (".zip", b"PK\x03\x04 not really", 422, "zip"),
        (".zip", climbing_zip(), 422, "leads out of the archive"),
        (".nii.gz", bomb(), 422, "above the cap"),
        (".nii", b"x" * (2**20 + 1), 413, "larger than 1048576"),
        (".pt", b"x", 415, ".nii.gz"),
        ("", b"x", 415, ".nii.gz"),
    ],
    ids=[
        "empty", "broken gzip", "noise", "NRRD of another file", "MHA of another file", "broken zip",
        "climbing zip", "bomb", "too large", "weights", "no suffix",
    ],
)  # fmt: skip
def test_what_is_no_study_is_refused_and_leaves_nothing(index, suffix, content, status, match):
    with pytest.raises(UploadError, match=match) as caught:
        index.add("x", suffix, io.BytesIO(content))
    assert caught.value.status == status
    assert not list(index.uploads.folder.iterdir()) and not list(index.uploads.folder.parent.glob("escaped*"))


def test_uploads_together_are_bounded(tmp_path, scan):
    limits = UploadLimits(largest_bytes=2**20, all_bytes=int(1.5 * len(scan)), memory_cap_bytes=2**28)
    index = StudyIndex(None, tmp_path / "uploads", limits=limits)
    index.add("a", ".nii.gz", io.BytesIO(scan))
    with pytest.raises(UploadError) as caught:
        index.add("b", ".nii.gz", io.BytesIO(scan))
    assert caught.value.status == 413 and len(index.ids()) == 1


def test_what_a_killed_upload_left_is_removed_by_the_server_alone(tmp_path):
    """A batch has an index of its own, beside a server that may be taking an upload in."""
    (tmp_path / "uploads").mkdir()
    half = tmp_path / "uploads" / f".{study_key('x')}-00.part.nii"
    half.write_bytes(b"half")
    index = StudyIndex(None, tmp_path / "uploads", limits=LIMITS)
    assert index.ids() == [] and half.exists()
    index.clean()
    assert not list((tmp_path / "uploads").iterdir())


def test_an_upload_is_not_replaced_before_it_is_listed_either(tmp_path, scan):
    """The second comes when the first is in the folder, and the list of studies not made anew yet."""
    uploads = Uploads(tmp_path / "uploads", LIMITS)
    said: list[str] = []
    for suffix in (".nii.gz", ".nii.gz", ".nii"):
        options = {"is_taken": lambda key: False, "announce": said.append}
        with nullcontext() if not said else pytest.raises(TakenError, match="not replaced"):
            uploads.take("study-1", suffix, io.BytesIO(scan), **options)
    assert said == ["study-1"] and [file.name for file in uploads.folder.iterdir()] == ["study-1.nii.gz"]


def test_a_study_that_is_being_found_is_waited_for(small_studies, tmp_path, monkeypatch):
    """Asked about while another request's look at the folder goes on."""
    folder, seen, go = tmp_path / "studies", threading.Event(), threading.Event()
    shutil.copytree(small_studies, folder)
    index = StudyIndex(folder, tmp_path / "uploads", limits=LIMITS)
    shutil.copy(small_studies / "ROE_RICHARD.nii.gz", folder / "new.nii.gz")

    def slow(path):
        seen.set()
        assert go.wait(60)
        return find_studies(path)

    monkeypatch.setattr("lib.studies.find_studies", slow)
    looking = threading.Thread(target=index.rescan)
    looking.start()
    assert seen.wait(60)
    threading.Timer(0.5, go.set).start()
    assert index.find("new.nii.gz").key == study_key("new.nii.gz")
    looking.join()


def test_dicom_becomes_one_file_for_viewers_and_files_stay_what_they_are(index, tmp_path, small_studies):
    volumes = VolumeFiles(
        tmp_path / "volumes", ready=index.ready, most_bytes=1, policy="warn", memory_cap_bytes=2**28
    )
    dicom, file = index.find("DOE^JANE_0"), index.find("ROE_RICHARD.nii.gz")
    assert volumes.path(file) == small_studies / "ROE_RICHARD.nii.gz"
    assert volumes.name(file) == f"{file.key}.nii.gz" and volumes.name(dicom) == f"{dicom.key}.nrrd"
    converted = volumes.path(dicom)
    stamp = converted.stat().st_ino
    header, _, voxels = converted.read_bytes().partition(b"\n\n")
    original = read_study(dicom.path)
    assert gzip.decompress(voxels) == original.hu.tobytes() and b"left-posterior-superior" in header
    assert volumes.path(dicom).stat().st_ino == stamp
    other = tmp_path / "volumes" / "study-0.nrrd"
    other.write_bytes(b"old")
    converted.unlink()
    volumes.path(dicom)
    assert not other.exists()  # the folder is bounded, and the newest stays
    assert not any(trace in str(path.name) for path in volumes.folder.iterdir() for trace in TRACES)


def test_results_are_stored_per_study_and_tag(tmp_path):
    labels = LabelFiles(tmp_path / "labels")
    (tmp_path / "a.json").write_text("{}")
    labels.save("study-1", tmp_path / "a.json", "staging", {"model": "staging"})
    assert labels.path("study-1", "staging").read_text() == "{}"
    assert labels.tags("study-1") == ["staging"] and labels.keys("staging") == {"study-1"}
    assert labels.info("study-1", "staging")["model"] == "staging"
    with pytest.raises(LabelError, match="no result"):
        labels.path("study-2", "staging")
    for tag in ("../x", "", ".", "a/b", "x" * 65, "a\0"):
        with pytest.raises(LabelError, match="a tag is"):
            labels.save("study-1", tmp_path / "a.json", tag, {})
    for key, file in (("../x", "a.json"), ("study-1", "a.sh")):
        (tmp_path / file).write_text("{}")
        with pytest.raises(LabelError):
            labels.save(key, tmp_path / file, "staging", {})
    assert labels.info("../labels/staging/study-1", "staging") == {} and labels.tags("*") == []


def test_the_log_has_no_names_paths_or_traces_of_both(index, caplog):
    import logging

    record_filter = PrivateLog(index.names)

    def logged(message, *args, **options):
        record = logging.LogRecord("x", logging.INFO, __file__, 1, message, args, options.get("exc_info"))
        assert record_filter.filter(record)
        return logging.Formatter("%(message)s").format(record)

    assert (
        logged("Infer Request: %s", {"image": "study-0123456789abcdef"}).count("study-0123456789abcdef") == 1
    )
    for text in (
        "doe^jane_0 was read",
        "image=ROE_RICHARD",
        "/data/DOE^JANE_0/1.dcm",
        "1.2.826.0.1.3680043.8.498.1",
    ):
        cleaned = logged("looking at %s", text)
        assert "[withheld]" in cleaned
        assert not any(trace.lower() in cleaned.lower() for trace in (*TRACES, "1.2.826"))
    stamp = (
        "[2026-03-04 05:06:07,089] "  # of a child process, whose lines are logged again and shown to clients
    )
    assert logged(f"{stamp}[12] ROE_RICHARD of 2026-03-04") == f"{stamp}[12] [withheld] of [withheld]"
    assert logged(f"born {stamp}") == "born [[withheld] 05:06:07,089] "
    try:
        raise ValueError("cannot read ROE_RICHARD.nii.gz")
    except ValueError:
        import sys

        text = logged("failed", exc_info=sys.exc_info())
    assert "ValueError" in text and "ROE" not in text
