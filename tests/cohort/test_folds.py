"""Folds keep patients together, share classes out, are drawn once, and fit the table they were drawn for."""

import json
from collections import Counter

import numpy as np
import pytest

from radclear.cohort import FoldError, FoldPlan, LabelTable, LabelTableError
from radclear.cohort.stratify import stratified_folds
from radclear.ct import study_key

CLASSES = ["nodule", "effusion", "rare"]


def write_table(path, n_patients=40, *, seed=0, extra=""):
    """Patients with one to three studies each; `rare` is true of one study each of five patients."""
    generator = np.random.default_rng(seed)
    rows = []
    for patient in range(n_patients):
        for study in range(1 + patient % 3):
            rare = int(patient % 8 == 0 and study == 0)
            nodule, effusion = generator.integers(0, 2), int(generator.random() < 0.2)
            rows.append(f"p{patient}/s{study},p{patient},g{patient // 2},{nodule},{effusion},{rare}")
    path.write_text("study,patient,site,nodule,effusion,rare\n" + "\n".join(rows) + "\n" + extra)
    return path


def read(path, **options):
    return LabelTable.read(path, **({"classes": CLASSES, "needs_split": False} | options))


@pytest.fixture
def table(tmp_path):
    return read(write_table(tmp_path / "labels.csv"))


def test_patients_stay_together_and_classes_are_shared_out(table):
    plan = FoldPlan.make(table, n_folds=5, seed=3)
    assert set(plan.folds) == {s.study for s in table.studies}
    of_patient = {}
    for study in table.studies:
        of_patient.setdefault(study.patient, set()).add(plan.folds[study.study])
    assert all(len(folds) == 1 for folds in of_patient.values())
    balance = plan.balance(table)
    assert [row["n_positive"]["rare"] for row in balance] == [1] * 5
    for name in ("nodule", "effusion"):
        counts = [row["n_positive"][name] for row in balance]
        assert max(counts) - min(counts) <= 3, name  # studies come in patients of up to 3
    assert sum(row["n_studies"] for row in balance) == len(table.studies)
    assert sum(row["n_groups"] for row in balance) == 40


def test_each_study_is_predicted_once_and_never_by_a_network_that_saw_its_patient(table):
    plan = FoldPlan.make(table, n_folds=4)
    predicted = Counter()
    for fold in range(4):
        split = plan.apply(table, fold)
        patients = {role: {s.patient for s in split.split(role)} for role in ("train", "val", "test")}
        assert not patients["train"] & patients["val"]
        assert not patients["test"] & (patients["train"] | patients["val"])
        predicted.update(s.study for s in split.split("test"))
        assert len(split.studies) == len(table.studies)
    assert predicted == Counter(s.study for s in table.studies)


def test_order_of_rows_does_not_change_the_folds(tmp_path):
    path = write_table(tmp_path / "labels.csv")
    header, *rows = path.read_text().splitlines()
    plan = FoldPlan.make(read(path), seed=5)
    path.write_text("\n".join([header, *reversed(rows)]) + "\n")
    assert FoldPlan.make(read(path), seed=5).folds == plan.folds
    assert FoldPlan.make(read(path), seed=6).folds != plan.folds


def test_other_groups_than_patients(tmp_path):
    path = write_table(tmp_path / "labels.csv")
    table = read(path, group="site")
    plan = FoldPlan.make(table, n_folds=4)
    for site in {s.group for s in table.studies}:
        assert len({plan.folds[s.study] for s in table.studies if s.group == site}) == 1
    path.write_text(path.read_text() + "p0/s9,p0,g7,0,0,0\n")
    with pytest.raises(LabelTableError, match="one patient is in site 'g0' .line 2. and in 'g7'"):
        read(path, group="site")


def test_folds_are_drawn_once(table, tmp_path):
    path = tmp_path / "run" / "folds.json"
    plan = FoldPlan.open(path, table, n_folds=5, seed=1)
    before = path.read_bytes()
    assert FoldPlan.open(path, table, n_folds=5, seed=1) == plan == FoldPlan.read(path)
    assert path.read_bytes() == before
    for other in ({"n_folds": 4, "seed": 1}, {"n_folds": 5, "seed": 2}):
        with pytest.raises(FoldError, match="has 5 folds of seed 1"):
            FoldPlan.open(path, table, **other)
    assert path.read_bytes() == before


def test_folds_of_another_table_are_refused(table, tmp_path):
    path = tmp_path / "folds.json"
    FoldPlan.open(path, table)
    more = read(write_table(tmp_path / "more.csv", extra="new,p99,g99,0,0,0\n"))
    with pytest.raises(
        FoldError, match=rf"1 studies of the table have no fold .the first is {study_key('new')}\)"
    ):
        FoldPlan.open(path, more)
    fewer = read(write_table(tmp_path / "fewer.csv", 39))
    with pytest.raises(FoldError, match="1 studies with a fold are not usable in the table"):
        FoldPlan.open(path, fewer)
    text = (tmp_path / "labels.csv").read_text().replace("p0/s0,p0,", "p0/s0,p77,")
    (tmp_path / "moved.csv").write_text(text)
    with pytest.raises(FoldError, match="are of another patient"):
        FoldPlan.read(path).apply(read(tmp_path / "moved.csv"), 0)


def test_a_patient_in_two_folds_is_refused(table, tmp_path):
    path = tmp_path / "folds.json"
    FoldPlan.open(path, table)
    content = json.loads(path.read_text())
    entry = content["studies"]["p1/s1"]
    entry["fold"] = (entry["fold"] + 1) % 5
    path.write_text(json.dumps(content))
    first, second = map(study_key, ("p1/s0", "p1/s1"))  # names may be of patients; messages reach logs
    with pytest.raises(FoldError, match=rf"is in fold \d \({first}\) and in fold \d \({second}\)"):
        FoldPlan.read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no json", "is no file of folds"),
        ('{"format": "other"}', "expected 'radclear folds 1'"),
        ('{"format": "radclear folds 1", "n_folds": 3, "seed": 0}', "is no file of folds"),
        (
            '{"format": "radclear folds 1", "n_folds": 3, "seed": 0, '
            '"studies": {"a": {"fold": 7, "group": "p"}}}',
            r"has folds \[7\]; expected 3",
        ),
    ],
)
def test_other_files_are_refused(content, said, tmp_path):
    (tmp_path / "folds.json").write_text(content)
    with pytest.raises(FoldError, match=said):
        FoldPlan.read(tmp_path / "folds.json")


def test_what_cannot_be_folded(table, tmp_path):
    with pytest.raises(FoldError, match="2 folds asked for; expected 3 or more"):
        FoldPlan.make(table, n_folds=2)
    with pytest.raises(FoldError, match="2 patients .or groups. with usable studies for 5 folds"):
        FoldPlan.make(read(write_table(tmp_path / "two.csv", 2)), n_folds=5)
    with pytest.raises(FoldError, match="cannot be read"):
        FoldPlan.read(tmp_path / "absent.json")
    with pytest.raises(FoldError, match="expected a number from 0 to 4"):
        FoldPlan.make(table).apply(table, 5)


def test_a_table_is_read_with_the_splits_of_a_fold(table, tmp_path):
    path = tmp_path / "folds.json"
    plan = FoldPlan.open(path, table)
    found = LabelTable.read(table.path, classes=CLASSES, folds=path, fold=2)
    assert {s.study for s in found.split("test")} == {name for name, fold in plan.folds.items() if fold == 2}
    with pytest.raises(LabelTableError, match="expected both or neither"):
        LabelTable.read(table.path, classes=CLASSES, folds=path)


def test_held_out_studies_get_no_fold(tmp_path):
    path = tmp_path / "labels.csv"
    rows = [f"s{i},p{i},{'test' if i < 3 else ''},{i % 2},0,1" for i in range(12)]
    path.write_text("study,patient,split,nodule,effusion,rare\n" + "\n".join(rows) + "\n")
    table = read(path, held_out=["test"])
    assert table.excluded == tuple((f"s{i}", "held out: split test") for i in range(3))
    assert set(FoldPlan.make(table, n_folds=3).folds) == {f"s{i}" for i in range(3, 12)}


@pytest.mark.parametrize("seed", range(5))
def test_no_fold_is_empty_whatever_the_labels(seed):
    generator = np.random.default_rng(seed)
    labels = (generator.random((7, 3)) < 0.1) * 1.0
    sizes = np.maximum(labels.max(axis=1), generator.integers(1, 20, 7))
    folds = stratified_folds(labels, sizes, n_folds=7, seed=seed)
    assert sorted(folds) == list(range(7))
