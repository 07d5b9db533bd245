"""Columns that are learned beside the classes: their values, and what is refused."""

import pytest
import torch

from radclear.cohort import (
    BagDataset,
    EmbeddingStore,
    LabelTable,
    LabelTableError,
    auxiliary_labels,
    collate_bags,
    instance_coords,
    prepare_bag_batch,
)
from radclear.ct import study_key

LABELS = """\
study,patient,split,location_lung,t,n
s1,p1,train,1,T2,N0
s2,p2,train,0,T1,
s3,p3,train,1,T10,N1
s4,p4,val,0,T4,N0
s5,p5,,1,T1,N0
"""
ATTRIBUTES = {
    "encoder": "tiny",
    "weight_sha256": "w",
    "series_hash": "s",
    "precision": "float32",
    "windows": ("abdomen", "lung"),
    "image_size": 8,
    "fingerprint": "f",
}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "labels.csv").write_text(LABELS, encoding="utf-8")
    return tmp_path / "labels.csv"


@pytest.fixture
def table(path):
    return LabelTable.read(path, classes={"lung": "location_lung"})


def test_values_are_those_of_the_studies_to_train_on(path, table):
    """In text order; a missing value and one that training never sees are -1."""
    found = auxiliary_labels(path, ["t", "n"], table)
    assert found.values == {"t": ("T1", "T10", "T2"), "n": ("N0", "N1")} and found.n_values == (3, 2)
    assert {study: found.of(study) for study in ("s1", "s2", "s3", "s4", "elsewhere")} == {
        "s1": (2, 0), "s2": (0, -1), "s3": (1, 1), "s4": (-1, 0), "elsewhere": (-1, -1)
    }  # fmt: skip


def test_without_columns_there_are_none(path, table):
    assert auxiliary_labels(path, [], table) is None


@pytest.mark.parametrize(
    ("columns", "split", "message"),
    [
        *[
            (
                columns,
                "train",
                r"auxiliary is .*; expected a list of columns of the label table, with --auxiliary",
            )
            for columns in ("t", "t,n", "", 5, 0, True, None, {"t": "x"}, [1], [None], [["t"]], [""])
        ],
        (["t", "t"], "train", "expected each column once"),
        (["t", "grade"], "train", "lacks the columns grade"),
        (["patient"], "train", "'patient' says which study this is"),
        (["split"], "train", "'split' says which study this is"),
        (["n"], "val", "column 'n' has 1 different values in the 1 studies to train on; expected 2 to 20"),
        (["nothing"], "train", "column 'nothing' has 0 different values in the 3 studies"),
    ],
)
def test_what_teaches_nothing_is_refused(columns, split, message, path, table):
    path.write_text("\n".join(f"{line},{'NA' if i else 'nothing'}" for i, line in enumerate(LABELS.split())))
    with pytest.raises(LabelTableError, match=message):
        auxiliary_labels(path, columns, table, split)


def test_numbers_and_names_are_no_labels(tmp_path):
    rows = [f"s{n},p{n},train,{n % 2},{40 + n}" for n in range(30)]
    path = tmp_path / "ages.csv"
    path.write_text("\n".join(["study,patient,split,location_lung,age", *rows]))
    table = LabelTable.read(path, classes={"lung": "location_lung"})
    with pytest.raises(LabelTableError, match="column 'age' has 30 different values in the 30 studies"):
        auxiliary_labels(path, ["age"], table)


def test_they_go_with_the_bags(path, table, tmp_path):
    store = EmbeddingStore(tmp_path / "store")
    for study in ("s1", "s2", "s3", "s4", "s5"):
        store.write(study_key(study), torch.zeros(4, 8), instance_coords((0.0, 5.0), 2), ATTRIBUTES)
    bags = BagDataset(store, table, "train", auxiliary=auxiliary_labels(path, ["t", "n"], table))
    batch = collate_bags([bags[i] for i in range(3)])
    assert batch["auxiliary"].tolist() == [[2, 0], [0, -1], [1, 1]]
    _, (label, values), _, _ = prepare_bag_batch(batch)
    assert torch.equal(values, batch["auxiliary"]) and torch.equal(label, batch["label"])
    annotated = BagDataset(store, table, "train", annotated={}, auxiliary=bags.auxiliary)
    _, ((label, _, mask), values), _, _ = prepare_bag_batch(collate_bags([annotated[0]]))
    assert mask.shape == (1, 4) and values.tolist() == [[2, 0]]
