"""The table of patients: a patient's studies are on one side of every split; a bad table stops the start."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from app_server import START_S, launch, needs_monailabel

from radclear.ct import study_key

GOOD = (
    "study,patient,site\nscan-1.nii.gz,Doe Jane,x\n"
    + study_key("scan-2.zip")
    + ",Doe Jane,\n\nscan-3,Roe,y\n"
)


def read(tmp_path, content):
    from lib.patients import read_patients

    path = tmp_path / "patients.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_patients(path)


@pytest.mark.parametrize("content", [GOOD, "\ufeff" + GOOD.replace("\n", "\r\n")])
def test_studies_are_named_by_name_or_id_and_patients_are_hashes(tmp_path, content):
    from lib.patients import hashed

    patients = read(tmp_path, content)
    one, two, three = (patients.of(study_key(name)) for name in ("scan-1.nii.gz", "scan-2.zip", "scan-3"))
    assert one == two == hashed("Doe Jane") != three and "Doe" not in one
    assert patients.of(study_key("scan-4")) is None
    assert len(patients) == 3 and patients.unknown([study_key("scan-3")]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "does not name the columns study and patient"),
        ("scan-1,Doe Jane\n", "does not name the columns"),
        ("study;patient\nscan-1;Doe Jane\n", "separated by commas"),
        ("study,patient,patient\na,b,c\n", "once each"),
        ("study,patient\n", "has no rows"),
        ("study,patient\nscan-1,\n", "line 2 of the table of patients names no patient"),
        ("study,patient\nscan-1,x\n,Doe Jane\n", "line 3 of the table of patients names no study"),
        ("study,patient\nscan-1,Doe,Jane\n", "line 2 of the table of patients has 3 cells; expected 2"),
        (f"study,patient\nscan-1,x\n{study_key('scan-1')},Doe Jane\n", "line 3 .* for the second time"),
        ("study,patient\nscan-1,Müller\n".encode("latin-1"), "no CSV in UTF-8"),
        ('study,patient\n"scan-1,Doe Jane\n', "no CSV"),
    ],
)
def test_a_bad_table_is_refused_without_repeating_it(tmp_path, content, message):
    from lib.patients import PatientsError

    with pytest.raises(PatientsError, match=message) as refusal:
        read(tmp_path, content)
    assert not [word for word in ("Doe", "Jane", "scan") if word in str(refusal.value)]


def test_the_table_decides_which_rows_train_and_which_are_held_out(tmp_path):
    """Two files of one patient; without the table their hashes put them on different sides."""
    from lib.training_rows import LabelColumns, patient_of, reader_rows, split_of

    names = [f"scan-{number}.nii.gz" for number in range(20)]
    for name in names:
        (tmp_path / name).write_bytes(b"no DICOM")
    columns = LabelColumns({"I": "I"}, "stage")
    own = {name: patient_of(tmp_path / name, study_key(name)) for name in names}
    first = next(n for n in names if split_of(own[n]) == "train")
    second = next(n for n in names if split_of(own[n]) == "test")
    patients = read(tmp_path, f"study,patient\n{first},P\n{second},P\n")
    for known in (patients, None):
        studies = [
            {"key": study_key(n), "patient": (known and known.of(study_key(n))) or own[n], "label": ("I",)}
            for n in (first, second)
        ]
        splits = {row["split"] for row in reader_rows(studies, columns, {})}
        assert len(splits) == (1 if known else 2)


@needs_monailabel
def test_jobs_and_scores_count_patients_by_the_table(tmp_path):
    """The job that the training's process gets, and the score, over a stand-in of the app."""
    from lib.scoring import score
    from lib.training_job import build_job
    from lib.verdicts import VerdictStore

    from radclear.ct import StudySource

    names = [f"scan-{number}.nii.gz" for number in range(4)]
    keys = [study_key(name) for name in names]
    rows = "".join(f"{name},patient {number // 2}\n" for number, name in enumerate(names[:3]))
    store = VerdictStore(tmp_path / "verdicts")
    lines = []
    for number, key in enumerate(keys):
        (tmp_path / names[number]).write_bytes(b"no DICOM")
        said = {"reader": "Ada", "verdict": "correct", "classes": ("I" if number % 2 else "II",)}
        hashes = {"weights_sha256": "a", "backbone_sha256": "b"}
        store.add(key, announce=lambda v: None, task="staging", comment="", **said, **hashes)
        answer = {"event": "answer", "entry": "staging", "study": key, "weights_sha256": "a"}
        answer["series_hash"] = "x"
        lines.append(json.dumps({**answer, "answer": {"I": 0.4 + 0.1 * number, "II": 0.6 - 0.1 * number}}))
    (tmp_path / "audit.jsonl").write_text("\n".join(lines))
    sources = {key: StudySource(n, tmp_path / n, key, "x") for key, n in zip(keys, names, strict=True)}
    datastore = SimpleNamespace(studies=SimpleNamespace(sources=lambda: sources, ready=lambda s: s))
    head = SimpleNamespace(
        task="staging", classes=("I", "II"), kind="multiclass", weights_sha256="a", path=tmp_path,
        backbone=SimpleNamespace(path=tmp_path),
    )  # fmt: skip
    options = dict.fromkeys(("base_labels", "base_embeddings", "precision", "batch_size", "policy"))
    app = SimpleNamespace(
        patients=read(tmp_path, "study,patient\n" + rows), verdicts=store, data=tmp_path,
        heads=lambda: {"staging": head}, bundled={"staging": head}, datastore=lambda: datastore,
        options=SimpleNamespace(**options), versions=SimpleNamespace(device="cpu"),
        audit=SimpleNamespace(path=tmp_path / "audit.jsonl"),
    )  # fmt: skip
    job = {study["key"]: study["patient"] for study in build_job(app, "staging")["studies"]}
    assert job[keys[0]] == job[keys[1]] != job[keys[2]] and job[keys[3]] is None
    scored = score(app, head)
    assert scored["n_studies"] == 4 and scored["n_patients"] == 3


@needs_monailabel
def test_a_bad_table_stops_the_server_with_a_sentence(tmp_path, small_studies):
    table = tmp_path / "patients.csv"
    table.write_text("study,patient\nROE_RICHARD.nii.gz,\n")
    server = launch(tmp_path, small_studies, "tasks", "staging", "patients", str(table))
    try:
        assert server.process.wait(timeout=START_S) != 0
    finally:
        server.stop()
    assert "line 2 of the table of patients names no patient" in server.printed
