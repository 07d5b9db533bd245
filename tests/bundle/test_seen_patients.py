"""Patients whom weights were trained on are on record beside them, and are not evaluated."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import zipfile

import pytest
import torch
from bag_cohorts import write_cohort
from bundle_fixtures import HEADS, run_config

from radclear.bundle import BundleError, pack_bundle, read_metadata, started_from, store_backbone
from radclear.bundle.crossval import run_crossval
from radclear.bundle.crossval_settings import TrainingChoices
from radclear.bundle.seen_patients import (
    SeenPatientsError,
    check_unseen,
    record_of,
    record_patients,
    seen_patients,
)
from radclear.bundle.weights import read_weights, store_weights
from radclear.cohort.patients import hashed_patient
from radclear.ct import study_key

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing config_file"),
    pytest.mark.usefixtures("clean_process"),
]
HEAD = HEADS[1]


def weight_file(folder, content: bytes = b"weights"):
    file = folder / "model.pt"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file, hashlib.sha256(content).hexdigest()


def test_a_hash_is_pbkdf2_of_the_hashed_name_with_the_weights_as_salt(tmp_path):
    file, sha256 = weight_file(tmp_path)
    record_patients(file, ["0042", "Bob^Jones"], sha256=sha256)
    text = (tmp_path / "model_patients.json").read_text()
    expected = [
        hashlib.pbkdf2_hmac(
            "sha256",
            b"patient-" + hashlib.sha256(name).hexdigest()[:16].encode(),
            bytes.fromhex(sha256),
            1000,
        ).hex()[:16]
        for name in (b"42", b"0042", b"Bob^Jones")
    ]
    assert json.loads(text) == {"trained_on": {sha256: sorted(expected)}, "complete": True}
    assert "Bob" not in text


def test_seen_are_those_of_the_same_name_however_numbers_are_written(tmp_path):
    file, sha256 = weight_file(tmp_path)
    record_patients(file, ["0042", "B"], sha256=sha256)
    seen = seen_patients(file, ["42", "b", "C", "42.0"])
    assert seen.patients == ("42", "42.0")
    assert seen.as_dict() == {"n_patients": 2, "on_record": "all"}


def test_the_hash_that_the_app_puts_in_place_of_a_name_is_the_name(tmp_path):
    file, sha256 = weight_file(tmp_path)
    raw, hashed = "000123", hashed_patient("000123")
    for known, asked in ((raw, hashed), (hashed, raw), (hashed, hashed)):
        record_patients(file, [known], sha256=sha256)
        assert seen_patients(file, [asked, "000124", hashed_patient("7")]).patients == (asked,)


def test_weights_take_over_what_is_on_record_of_those_they_started_from(tmp_path):
    first, sha_first = weight_file(tmp_path / "first", b"1")
    second, sha_second = weight_file(tmp_path / "second", b"2")
    record_patients(first, ["A"], sha256=sha_first)
    record_patients(second, ["B"], sha256=sha_second, started_from=record_of(first))
    assert seen_patients(second, ["A", "B", "C"]).patients == ("A", "B")
    assert seen_patients(first, ["A", "B", "C"]).patients == ("A",)
    record_patients(second, ["B"], sha256=sha_second, started_from=record_of("timm:vit_base_patch16_224"))
    seen = seen_patients(second, ["A", "B"])
    assert seen.patients == ("B",) and seen.on_record == "part"


def test_nothing_is_on_record_of_weights_without_patients_or_of_others(tmp_path):
    file, sha256 = weight_file(tmp_path)
    assert seen_patients(file, ["A"]).on_record == "nothing"
    record_patients(file, ["A"], sha256=sha256)
    file.write_bytes(b"other weights")  # put there by hand
    assert seen_patients(file, ["A"]).as_dict() == {"n_patients": 0, "on_record": "nothing"}
    record_patients(file, None, sha256=sha256)
    assert not (tmp_path / "model_patients.json").exists()


def test_a_damaged_record_and_an_unknown_choice_are_told(tmp_path):
    file, sha256 = weight_file(tmp_path)
    record_patients(file, ["A"], sha256=sha256)
    with pytest.raises(BundleError, match="'ignore'; expected refuse or report"):
        check_unseen(file, {"A": "study-a"}, choice="ignore")
    for text in ("{", "[]", "{}", '{"trained_on": {}}', '{"trained_on": [], "complete": true}'):
        (tmp_path / "model_patients.json").write_text(text)
        with pytest.raises(BundleError, match="model_patients.json is damaged"):
            seen_patients(file, ["A"])


def test_the_refusal_names_five_studies_and_what_to_do(tmp_path, caplog):
    file, sha256 = weight_file(tmp_path / "encoder" / "models")
    record_patients(file, [f"P{n}" for n in range(9)], sha256=sha256)
    with pytest.raises(
        SeenPatientsError, match="^7 patients .* encoder .*s0, s1, s2, s3, s4 and 2 more"
    ) as told:
        check_unseen(file, {f"P{n}": f"s{n}" for n in range(7)})
    assert not caplog.messages and "P0" not in str(told.value)
    assert len(check_unseen(file, {"P1": "s1", "X": "s2"}, choice="report").patients) == 1
    assert "s1" in caplog.text and "P1" not in caplog.text


@pytest.fixture
def encoder(bundles, tmp_path):
    """A backbone bundle with a tiny record, and the cohort whose embeddings are of its weights."""
    folder = tmp_path / "lecl_gated_cnn"
    shutil.copytree(bundles / "lecl_gated_cnn", folder)
    return folder, write_cohort(tmp_path / "cohort", folder)


def key_of(cohort, patient: str) -> str:
    with (cohort / "labels.csv").open(newline="") as file:
        return next(study_key(row["study"]) for row in csv.DictReader(file) if row["patient"] == patient)


def patients_of(cohort, split: str) -> list[str]:
    with (cohort / "labels.csv").open(newline="") as file:
        return [row["patient"] for row in csv.DictReader(file) if row["split"] == split]


def trained_on(folder, patients) -> None:
    """Put the weights of a bundle there again, this time with a record."""
    state_dict, _ = read_weights(folder)
    entry = read_metadata(folder)["radclear"]["weights"]["model.pt"]
    store_weights(folder, state_dict, provenance=entry, patients=patients)


def train_head(bundles, folder, cohort, output, **options) -> int:
    _, code = run_config(
        bundles / HEAD / "configs" / "train.json",
        workflow_type="train",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        backbone_bundle=folder,
        output_bundle=output,
        max_epochs=1,
        device="cpu",
        **options,
    )
    return code


def evaluate_head(trained, cohort, output, **options) -> int:
    _, code = run_config(
        trained / "configs" / "evaluate.json",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        output_dir=output,
        device="cpu",
        **options,
    )
    return code


def test_a_head_is_not_trained_or_evaluated_on_the_encoders_patients(bundles, encoder, tmp_path, capsys):
    folder, cohort = encoder
    trained_on(folder, patients_of(cohort, "train"))
    assert train_head(bundles, folder, cohort, tmp_path / "head") == 0
    assert evaluate_head(tmp_path / "head", cohort, tmp_path / "fine") == 0
    metrics = json.loads((tmp_path / "fine" / "lung_disease_metrics.json").read_text())
    assert metrics["seen_patients"] == {
        "encoder": {"n_patients": 0, "on_record": "all"},
        "head": {"n_patients": 0, "on_record": "all"},
    }

    victim = patients_of(cohort, "val")[0]
    trained_on(folder, [victim])
    assert train_head(bundles, folder, cohort, tmp_path / "refused") == 2
    assert key_of(cohort, victim) in capsys.readouterr().err and not (tmp_path / "refused").exists()
    assert train_head(bundles, folder, cohort, tmp_path / "reported", seen_patients="report") == 0

    victim = patients_of(cohort, "test")[0]
    trained_on(folder, [victim])
    assert evaluate_head(tmp_path / "head", cohort, tmp_path / "out") == 2
    assert key_of(cohort, victim) in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert evaluate_head(tmp_path / "head", cohort, tmp_path / "out", seen_patients="report") == 0
    metrics = json.loads((tmp_path / "out" / "lung_disease_metrics.json").read_text())
    assert metrics["seen_patients"]["encoder"] == {"n_patients": 1, "on_record": "all"}
    assert "the encoder was trained on 1 of these patients" in capsys.readouterr().out


def test_a_head_is_not_evaluated_on_its_own_patients_under_another_split(bundles, encoder, tmp_path, capsys):
    folder, cohort = encoder
    assert train_head(bundles, folder, cohort, tmp_path / "head") == 0
    assert evaluate_head(tmp_path / "head", cohort, tmp_path / "train", split="train") == 0  # said to be so
    text = (cohort / "labels.csv").read_text()
    (cohort / "labels.csv").write_text(text.replace(",train,", ",external,"))
    capsys.readouterr()
    assert evaluate_head(tmp_path / "head", cohort, tmp_path / "out", split="external") == 2
    assert "24 patients to be evaluated are among those that head" in capsys.readouterr().err


def test_an_evaluation_says_where_nothing_is_on_record(bundles, encoder, tmp_path, capsys):
    folder, cohort = encoder
    trained_on(folder, None)
    assert train_head(bundles, folder, cohort, tmp_path / "head") == 0
    assert evaluate_head(tmp_path / "head", cohort, tmp_path / "out") == 0
    assert "whom the encoder was trained on: nothing is on record" in capsys.readouterr().out


def test_cross_validation_refuses_the_encoders_patients(bundles, encoder, tmp_path):
    folder, cohort = encoder
    trained_on(folder, patients_of(cohort, "val")[:2])
    inputs = {"embeddings": cohort / "embeddings", "labels": cohort / "labels.csv"}
    inputs |= {"backbone_bundle": folder, "choices": TrainingChoices(n_folds=3, max_epochs=1)}
    with pytest.raises(SeenPatientsError, match="2 patients to be evaluated"):
        run_crossval(bundles / HEAD, tmp_path / "refused", **inputs)
    run = run_crossval(bundles / HEAD, tmp_path / "reported", **inputs, seen_patients="report")
    manifest = json.loads((tmp_path / "reported" / "manifest.json").read_text())
    assert run.complete and any("2 of these patients" in note for note in manifest["notes"])


def test_a_backbone_goes_on_from_itself_and_keeps_both_records(bundles, tmp_path):
    folder = tmp_path / "lecl_gated_cnn"
    shutil.copytree(bundles / "lecl_gated_cnn", folder)
    trained_on(folder, ["A"])
    weights = folder / "models" / "model.pt"
    from radclear.backbones import load_backbone

    network = load_backbone(torch.load(weights, weights_only=True))
    before = started_from(weights)
    record_patients(weights, None, sha256=before.sha256)  # somebody takes the record away meanwhile
    for parameter in network.parameters():
        parameter.data += 0.01
        break
    store_backbone(
        network,
        bundle_root=folder,
        output_bundle=folder,
        training="gone on",
        demonstration=True,
        n_studies={"train": 1},
        settings={},
        started_from=before,
        patients=["B"],
    )
    assert seen_patients(weights, ["A", "B", "C"]).patients == ("A", "B")


def test_packed_bundles_do_not_tell_whom_they_were_trained_on(encoder, tmp_path):
    folder, _ = encoder
    trained_on(folder, ["A"])
    assert (folder / "models" / "model_patients.json").is_file()
    names = zipfile.ZipFile(pack_bundle(folder, tmp_path / "zip")).namelist()
    assert any(name.endswith("models/model.pt") for name in names)
    assert not [name for name in names if "patients.json" in name]
