"""Embedding a cohort: what is done, skipped and failed, and by whom."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from radclear.backbones import embed_slices
from radclear.cohort import BagDataset, EmbeddingStore, LabelTable, collate_bags, embed_studies
from radclear.ct import (
    ABDOMEN,
    DEFAULT_WINDOWS,
    CTInputError,
    Finding,
    Study,
    StudySource,
    find_studies,
    study_key,
)
from radclear.ct.study import SeriesChoice
from radclear.phantom import LOCATION_CLASSES, write_cohort


class TinyBackbone(nn.Module):
    """Embeds a slice as its mean colour."""

    name, image_size, embedding_dim = "tiny", 8, 3

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def make_study(value, depth=4, findings=()):
    hu = np.full((depth, 8, 8), value, np.int16)
    choice = SeriesChoice("", "", "only one", 1, "nifti")
    return Study(hu, np.eye(4), np.arange(depth) * 2.5, (), findings, choice)


def sources(*names):
    return [StudySource(name, Path(name), study_key(name), f"fingerprint of {name}") for name in names]


@pytest.fixture
def reads(monkeypatch):
    """Studies `a`, `b`, … that need no files; the list grows with each that is read."""
    log = []

    def read_study(path, *, policy):
        log.append(path.name)
        if path.name == "broken":
            raise CTInputError("no_ct_found", "nothing in the path is a CT image")
        if path.name == "odd":
            raise RuntimeError("what no one\nexpected")
        findings = (Finding("gap", "warning", "a gap"),) if path.name == "gappy" else ()
        if findings and policy == "strict":
            raise CTInputError("refused_by_policy", "a gap")
        return make_study(ord(path.name[0]) - 97, findings=findings)

    def slice_stack(study, *, windows, size):
        grey = torch.from_numpy(study.hu[:, :size, :size].astype(np.uint8))
        return torch.stack([grey + 100 * w for w in range(len(windows))])

    monkeypatch.setattr("radclear.cohort.embed.read_study", read_study)
    monkeypatch.setattr("radclear.cohort.embed.slice_stack", slice_stack)
    return log


@pytest.fixture
def store(tmp_path):
    return EmbeddingStore(tmp_path / "store")


def run(store, *names, **options):
    options = {"weight_sha256": "w", "encoder": "tiny", "precision": "float32"} | options
    return embed_studies(sources(*names), TinyBackbone(), store, **options)


def keys(*names):
    return [study_key(name) for name in names]


def test_embeddings_and_provenance_are_stored(store, reads):
    report = run(store, "a", "b")
    assert report.done == keys("a", "b") and report.skipped == report.failed == []
    assert report.names == dict(zip(keys("a", "b"), "ab", strict=True))
    assert set(report.seconds) == {"read", "window", "embed", "write"}
    assert all(seconds > 0 for seconds in report.seconds.values())
    study = store.read(study_key("b"))
    grey = torch.stack([torch.full((4, 8, 8), v, dtype=torch.uint8) for v in (1, 101)])
    expected = embed_slices(TinyBackbone(), grey, precision="float32")
    torch.testing.assert_close(study.feats, expected, rtol=0, atol=0)
    assert study.coords.tolist() == [[z, w, z * 2.5] for z in range(4) for w in range(2)]
    provenance = {
        "encoder": "tiny",
        "weight_sha256": "w",
        "precision": "float32",
        "windows": DEFAULT_WINDOWS,
        "image_size": 8,
        "fingerprint": "fingerprint of b",
        "series_hash": make_study(1).series_hash,
        "warnings": (),
    }
    assert store.has(study_key("b"), **provenance)


def test_resumes_with_what_is_missing_or_stale(store, reads):
    run(store, "a", "b")
    reads.clear()
    report = run(store, "a", "b", "c")
    assert (report.done, report.skipped, reads) == (keys("c"), keys("a", "b"), ["c"])
    for change in ({"weight_sha256": "other"}, {"windows": (ABDOMEN,)}, {"encoder": "other"}):
        assert run(store, "a", **change).done == keys("a")
        assert run(store, "a", **change).skipped == keys("a")
    assert store.read(study_key("a")).n_windows == 2 and store.read(study_key("b")).n_windows == 2


def test_touched_source_files_are_read_again(store, reads):
    run(store, "a")
    touched = [StudySource("a", Path("a"), study_key("a"), "later fingerprint")]
    report = embed_studies(
        touched, TinyBackbone(), store, weight_sha256="w", encoder="tiny", precision="float32"
    )
    assert report.done == keys("a")


def test_one_broken_study_does_not_stop_the_others(store, reads, caplog):
    seen = []
    report = run(store, "a", "broken", "odd", "b", progress=lambda done, total: seen.append((done, total)))
    assert report.done == keys("a", "b")
    assert report.failed == [
        (study_key("broken"), "nothing in the path is a CT image"),
        (study_key("odd"), "RuntimeError: what no one expected"),
    ]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "nothing in the path" not in caplog.text, "whoever runs this shows the reasons, once"
    assert store.keys() == sorted(keys("a", "b"))
    assert [p.name for p in store.folder.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(2, "No such file or directory", "PLACE"), "No such file or directory"),
        (OSError("PLACE"), "OSError"),
        (CTInputError("no_ct_found", "nothing in PLACE is a CT image"), "is a CT image"),
        (RuntimeError("PLACE/1.2.840.113619.2.55.3/im.dcm of ROE^RICHARD"), "RuntimeError: [withheld]"),
        (ValueError("NAME and its part JOHN_2"), "ValueError: [withheld] and its part [withheld]"),
    ],
)
def test_reasons_name_no_patient_and_no_place(error, expected, store, monkeypatch, caplog, tmp_path):
    path = tmp_path / "DOE^JANE" / "JOHN_2"

    def read_study(*_, **__):
        error.args = tuple(
            str(arg).replace("PLACE", str(path)).replace("NAME", "DOE^JANE/JOHN_2") for arg in error.args
        )
        if getattr(error, "filename", None):
            error.filename = str(path)
        raise error

    monkeypatch.setattr("radclear.cohort.embed.read_study", read_study)
    source = StudySource("DOE^JANE/JOHN_2", path, study_key("DOE^JANE/JOHN_2"), "f")
    clash = StudySource("DOE^JANE/JOHN_2", tmp_path / "other", source.key, "f")
    options = {"weight_sha256": "w", "encoder": "tiny", "precision": "float32"}
    report = embed_studies([source, clash], TinyBackbone(), store, **options)
    assert len(report.failed) == 2 and expected in report.failed[1][1]
    said = caplog.text + str(report.failed)
    for secret in ("DOE", "JANE", "JOHN", "ROE", "RICHARD", "113619", str(tmp_path)):
        assert secret not in said


def test_a_damaged_file_is_reported_and_kept(store, reads):
    run(store, "a", "b")
    store.path(study_key("a")).write_bytes(b"damaged")
    report = run(store, "a", "b")
    assert report.skipped == keys("b")
    assert [key for key, _ in report.failed] == keys("a") and "is damaged" in report.failed[0][1]
    assert store.path(study_key("a")).read_bytes() == b"damaged"


def test_a_backbone_that_fails_is_reported_per_study(store, reads):
    class Broken(TinyBackbone):
        def embed(self, x):
            return super().embed(x) / 0

    report = embed_studies(
        sources("a", "b"), Broken(), store, weight_sha256="w", encoder="broken", precision="float32"
    )
    assert [key for key, _ in report.failed] == keys("a", "b")
    assert store.keys() == [] and list(store.folder.iterdir()) == []


def test_strict_does_not_take_embeddings_of_studies_with_warnings(store, reads):
    assert run(store, "a", "gappy").done == keys("a", "gappy")
    report = run(store, "a", "gappy", policy="strict")
    assert report.skipped == keys("a")
    assert report.failed == [(study_key("gappy"), "a gap")]


def test_a_full_disk_stops_the_run_and_frees_the_claims(store, reads, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "write", full_disk)
        with pytest.raises(OSError, match="No space left"):
            run(store, "a", "b", "c")
    assert list(store.folder.iterdir()) == []
    assert run(store, "a", "b", "c").done == keys("a", "b", "c")


def test_work_of_another_is_waited_for_and_not_repeated(store, reads):
    other, held, reports = EmbeddingStore(store.folder), threading.Event(), []

    def work():
        with other.claim(study_key("b")):
            held.set()
            finished.wait(30)
            other.write(study_key("b"), *contents)

    run(EmbeddingStore(store.folder.with_name("elsewhere")), "b")
    study = EmbeddingStore(store.folder.with_name("elsewhere")).read(study_key("b"))
    contents, finished = (study.feats, study.coords, study.attributes), threading.Event()
    reads.clear()
    worker = threading.Thread(target=work)
    worker.start()
    held.wait(30)

    def progress(done, total):
        if done == 2:  # all but b are settled: now the other one finishes
            finished.set()

    reports.append(run(store, "a", "b", "c", progress=progress))
    worker.join()
    assert reports[0].done == keys("a", "c") and reports[0].skipped == keys("b")
    assert reads == ["a", "c"]


def test_a_study_named_twice_is_embedded_once(store, reads):
    report = run(store, "a", "a")
    assert report.done == report.skipped == keys("a") and reads == ["a"]


def test_two_studies_of_one_name_do_not_overwrite_each_other(store, reads):
    one, other = (StudySource("ct", Path(folder) / "a", study_key("ct"), folder) for folder in "xy")
    report = embed_studies(
        [one, other], TinyBackbone(), store, weight_sha256="w", encoder="tiny", precision="float32"
    )
    assert report.done == keys("ct") and reads == ["a"]
    assert report.failed[0][0] == study_key("ct") and "two studies have the same name" in report.failed[0][1]
    assert store.has(study_key("ct"), fingerprint="x")


def test_another_study_of_the_same_name_replaces_no_embeddings(store, reads):
    options = {"weight_sha256": "w", "encoder": "tiny", "precision": "float32"}
    one, other = (StudySource("scan", Path(name), study_key("scan"), name) for name in "ab")
    assert embed_studies([one], TinyBackbone(), store, **options).done == [one.key]
    report = embed_studies([other], TinyBackbone(), store, **options)
    assert "another study of the same name" in report.failed[0][1] and one.key in report.failed[0][1]
    assert store.has(one.key, fingerprint="a")
    moved = StudySource("scan", Path("elsewhere") / "a", one.key, "copied anew")
    assert embed_studies([moved], TinyBackbone(), store, **options).done == [one.key]


def test_nothing_to_do(store):
    report = embed_studies([], TinyBackbone(), store, weight_sha256="w", encoder="tiny")
    assert report.done == report.skipped == report.failed == []


def test_a_cohort_on_disk_becomes_bags(store, tmp_path):
    """Files, as the phantom writes them, through reading, embedding and the label table to a batch."""
    cohort = tmp_path / "cohort"
    write_cohort(cohort, n_studies=3, n_slices=24, size=64)
    table = cohort / "labels.csv"
    found = find_studies(cohort / "studies")
    assert len(found) == 3
    report = embed_studies(
        found, TinyBackbone(), store, weight_sha256="w", encoder="tiny", precision="float32"
    )
    assert sorted(report.done) == sorted(source.key for source in found) and not report.failed
    classes = {name: f"location_{name}" for name in LOCATION_CLASSES}
    labels = LabelTable.read(table, classes=classes, store=store)
    assert labels.excluded == () and len(labels.studies) == 3
    split = labels.studies[0].split
    batch = collate_bags([*BagDataset(store, labels, split)])
    assert batch["feats"].shape[1:] == (48, 3) and batch["mask"].all()
    assert batch["label"].shape[1] == len(LOCATION_CLASSES)
    z_mm = batch["coords"][0, ::2, 2]
    assert (z_mm.diff() > 0).all()
