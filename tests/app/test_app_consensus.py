"""Several readers' verdicts become one label; versions of heads; rows to train from."""

from __future__ import annotations

import csv
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from app_server import ROOT, needs_monailabel

STAGES = ("I", "II", "III", "IV")


@dataclass(frozen=True)
class Vote:
    classes: tuple[str, ...] | None
    series_hash: str | None = None


def votes(**by_reader):
    return {"s": {name: Vote(classes) for name, classes in by_reader.items()}}


def test_one_class_by_most_votes_and_none_in_a_tie():
    from lib.consensus import consensus

    two_to_one = votes(ada=("II",), bob=("II",), eve=("III",), dan=None)
    found = consensus(two_to_one, classes=STAGES, kind="multiclass")
    assert found.labels == {"s": ("II",)} and found.readers == {"s": 3}
    tie = consensus(votes(ada=("II",), bob=("III",)), classes=STAGES, kind="ordinal")
    assert tie.labels == {} and tie.excluded == {"s": "as many readers for as against II, III"}
    nobody = consensus(votes(ada=None), classes=STAGES, kind="multiclass")
    assert "name no classes" in nobody.excluded["s"]


def test_classes_that_may_be_together_need_more_than_half():
    from lib.consensus import consensus

    names = ("a", "b", "c")
    found = consensus(votes(x=("c", "a"), y=("a",), z=("a", "b")), classes=names, kind="multilabel")
    assert found.labels == {"s": ("a",)}
    tie = consensus(votes(x=("a", "b"), y=("a",)), classes=names, kind="multilabel")
    assert tie.excluded == {"s": "as many readers for as against b"}
    none = consensus(votes(x=(), y=()), classes=names, kind="multilabel")
    assert none.labels == {"s": ()}


def test_readers_of_different_series_give_no_label():
    from lib.consensus import consensus

    def of(*series):
        verdicts = {f"reader {n}": Vote(("II",), name) for n, name in enumerate(series)}
        return consensus({"s": verdicts}, classes=STAGES, kind="multiclass")

    assert of("x", "y").excluded == {"s": "readers judged different series of the study"}
    assert of("x", "x", None).series == {"s": "x"} and of(None).series == {"s": None}
    silent = {"s": {"Ada": Vote(("II",), "x"), "Bob": Vote(None, "y")}}
    assert consensus(silent, classes=STAGES, kind="multiclass").series == {"s": "x"}


def test_a_score_is_of_the_answers_that_were_judged(tmp_path):
    """One study has a later answer about another of its series; of one only another series was answered."""
    from lib.scoring import score

    from radclear.ct import StudySource

    studies = {f"study-{n}": ("II" if n % 2 else "I", "x") for n in range(6)}
    newest = {key: {"Ada": Vote((stage,), series)} for key, (stage, series) in studies.items()}
    lines = []

    def answer(study, series, right):
        stage = studies[study][0]
        p = {"I": 0.9, "II": 0.1} if (stage == "I") == right else {"I": 0.1, "II": 0.9}
        lines.append(
            {"event": "answer", "entry": "staging", "study": study, "series_hash": series, "answer": p}
        )

    for study in list(studies)[:5]:
        answer(study, "x", True)
    answer("study-0", "y", False)
    answer("study-5", "y", False)
    audit = tmp_path / "audit.jsonl"
    audit.write_text("\n".join(json.dumps({**line, "weights_sha256": "a"}) for line in lines))
    sources = {key: StudySource(key, tmp_path / key, key, "") for key in studies}
    store = SimpleNamespace(studies=SimpleNamespace(sources=lambda: sources))
    app = SimpleNamespace(
        verdicts=SimpleNamespace(newest=lambda task: newest), audit=SimpleNamespace(path=audit),
        patients=SimpleNamespace(of=lambda study: study), datastore=lambda: store,
    )  # fmt: skip
    head = SimpleNamespace(task="staging", classes=("I", "II"), kind="multiclass", weights_sha256="a")
    found = score(app, head)
    assert found["n_studies"] == 5
    assert found["excluded"] == {"these weights were not asked about the images that were judged": 1}
    assert found["metrics"]["macro"]["auroc"]["value"] == 1.0


def test_rows_have_the_columns_of_the_heads_training_table():
    from lib.patients import hashed
    from lib.training_rows import LabelColumns, reader_rows, split_of

    lung = LabelColumns.of_bundle(ROOT / "bundles" / "lung_disease_classification")
    staging = LabelColumns.of_bundle(ROOT / "bundles" / "staging_classification")
    assert staging.cells(("III",)) == {"stage": "III"}
    cells = lung.cells(("nodule", "effusion"))
    assert {name for name, value in cells.items() if value == "1"} == {"disease_nodule", "disease_effusion"}
    assert len(cells) == 5
    patient = hashed("P7")
    rows = reader_rows([{"key": "study-1", "patient": patient, "label": ("I",)}], staging, {patient: "val"})
    assert rows == [{"study": "study-1", "patient": patient, "split": "val", "stage": "I"}]
    shares = [split_of(hashed(str(n))) for n in range(2000)]
    assert 0.26 < shares.count("test") / 2000 < 0.34 and 0.16 < shares.count("val") / 2000 < 0.24


def test_the_base_table_keeps_its_splits_and_loses_what_readers_judged(tmp_path):
    import torch
    from lib.patients import hashed
    from lib.training_rows import LabelColumns, TrainingError, base_rows

    from radclear.cohort import EmbeddingStore
    from radclear.ct import study_key

    store = EmbeddingStore(tmp_path / "embeddings")
    attributes = dict.fromkeys(("encoder", "weight_sha256", "precision", "fingerprint"), "x")
    for name in ("one", "two"):
        store.write(
            study_key(name),
            torch.zeros(2, 4),
            torch.zeros(2, 3),
            {**attributes, "windows": ("w",), "image_size": 224, "series_hash": f"series of {name}"},
        )
    columns = LabelColumns({name: name for name in STAGES}, "stage")
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("study", "patient", "split", "stage"), ("one", "P1", "train", "I"), ("two", "P2", "val", "II")]
        )
    rows, judged = base_rows(table, store, columns, not_series={"series of one"})
    assert rows == [{"study": "two", "patient": hashed("P2"), "split": "val", "stage": "II"}] and judged == 1
    with pytest.raises(TrainingError, match="no column grade"):
        base_rows(table, store, LabelColumns({}, "grade"), not_series=set())


def test_patients_of_dicom_are_told_by_their_id(tmp_path):
    from lib.patients import hashed
    from lib.training_rows import patient_of

    from radclear.phantom import make_phantom, write_dicom, write_nifti

    phantom = make_phantom(3, n_slices=24, size=64)
    write_dicom(phantom, tmp_path / "a")
    write_dicom(phantom, tmp_path / "b")
    nifti = write_nifti(phantom, tmp_path / "c.nii.gz")
    assert patient_of(tmp_path / "a", "study-a") == patient_of(tmp_path / "b", "study-b") != hashed("study-a")
    assert patient_of(nifti, "study-c") == hashed("study-c")


def test_a_version_counts_when_it_is_whole_and_no_other_weights_answer_in_its_name(tmp_path):
    from lib.request_check import RequestError
    from lib.versions import HeadVersions, VersionError

    versions = HeadVersions(tmp_path, device="cpu")
    name, folder = versions.start("staging")
    folder.mkdir(parents=True)
    assert versions.listed("staging") == [] and versions.current("staging") == "bundled"
    versions.keep("staging", name)
    assert versions.listed("staging") == [name] and versions.start("staging")[0] != name
    versions.choose("staging", name, "a" * 64)
    assert versions.current("staging") == name
    with pytest.raises(VersionError, match="cannot be loaded"):
        versions.load_current("staging")
    (tmp_path / "staging" / "current.json").write_text(
        json.dumps({"version": "20200101T000000000Z", "weights_sha256": "a"})
    )
    with pytest.raises(VersionError, match="should answer and is gone; restore it"):
        versions.load_current("staging")
    versions.choose("staging", "bundled", "")
    assert versions.load_current("staging") is None
    with pytest.raises(RequestError, match="no version of this name"):
        versions.path("staging", "../staging")
    (tmp_path / "staging" / "20200101T000000000Z.partial").mkdir()
    assert versions.clean() == ["staging 20200101T000000000Z"] and versions.clean() == []


@needs_monailabel
def test_studies_are_compared_for_one_request_at_a_time():
    """Embedding fifty studies takes minutes; as many requests as the server has threads would stop it."""
    from lib.request_check import RequestError
    from lib.strategies import LowestAgreement

    begun, end = threading.Event(), threading.Event()

    def look(source, head, use):
        begun.set()
        assert end.wait(60)
        return 0.5

    store = SimpleNamespace(source=lambda key: key, studies=SimpleNamespace(ready=lambda source: source))
    app = SimpleNamespace(datastore=lambda: store, answers=SimpleNamespace(look=look))
    strategy = LowestAgreement(app, "")
    head = SimpleNamespace(task="staging", aggregator=SimpleNamespace(members=(1, 2)))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(strategy.choose, ["study-1"], head)
        assert begun.wait(60)
        with pytest.raises(RequestError, match="another request") as refused:
            strategy.choose(["study-1"], head)
        end.set()
        assert first.result()[0] == "study-1" and refused.value.status == 429
    assert strategy.choose(["study-1"], head)[1]["agreement"] == 0.5


@needs_monailabel
def test_scores_are_computed_for_one_request_at_a_time(monkeypatch):
    """Resampling many studies takes seconds; as many requests as the server has threads would stop it."""
    from fastapi import Depends
    from lib import learning_routes
    from lib.request_check import RequestError

    begun, end = threading.Event(), threading.Event()

    def score(app, head):
        begun.set()
        assert end.wait(60)
        return {"head": head}

    monkeypatch.setattr(learning_routes, "score", score)
    app = SimpleNamespace(heads=lambda: {"staging": "S", "lung_disease": "L"})
    anyone = Depends(lambda: None)
    routes = learning_routes.learning_router(
        app, reader=anyone, annotator=anyone, admin=anyone, who=str
    ).routes
    ask = next(route.endpoint for route in routes if route.path == "/scoring/{task}")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, "staging")
        assert begun.wait(60)
        with pytest.raises(RequestError, match="a score is being computed") as refused:
            ask("lung_disease")
        end.set()
        assert first.result() == {"head": "S"} and refused.value.status == 429
    assert ask("lung_disease") == {"head": "L"}


@needs_monailabel
def test_entropy_and_agreement():
    import torch
    from lib.strategies import agreement, entropy_bits

    from radclear.aggregation import AttentionMIL, EnsembleMIL

    assert entropy_bits(dict.fromkeys(STAGES, 0.25), kind="multiclass") == pytest.approx(2)
    assert entropy_bits({"a": 1.0, "b": 0.0}, kind="multiclass") == 0
    p = 0.1
    one = -(p * math.log2(p) + (1 - p) * math.log2(1 - p))
    assert entropy_bits({"a": p, "b": 0.5}, kind="multilabel") == pytest.approx(one + 1)

    class Head:
        aggregator = EnsembleMIL(AttentionMIL(embedding_dim=8, n_classes=2), 2)

    feats = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert agreement(Head, feats) == pytest.approx(1)  # copies of one member agree
    with torch.no_grad():
        for parameter in Head.aggregator.members[1].parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    first, second = (m.eval()(feats[None], None) is None or m.attention[0] for m in Head.aggregator.members)
    expected = float(torch.minimum(first, second).sum())
    assert agreement(Head, feats) == pytest.approx(expected) and expected < 0.99
