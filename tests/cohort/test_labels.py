"""Label tables: what is read, what is refused, what is excluded with a reason."""

import numpy as np
import pytest

from radclear.aggregation import build_loss
from radclear.cohort import (
    EmbeddingStore,
    LabelTable,
    LabelTableError,
    class_weight,
    instance_coords,
    pos_weight,
)
from radclear.ct import study_key
from radclear.errors import MissingDependencyError

HEADER = "study,patient,split,location_lung,location_liver,stage\n"
ROWS = """\
s1,p1,train,1,0,I
s2,p1,train,0,0,II
s3,p2,train,1,1,III
s4,p3,train,0,0,IV
s5,p4,test,1,0,I
"""
LOCATION = {"lung": "location_lung", "liver": "location_liver"}
STAGES = ("I", "II", "III", "IV")


@pytest.fixture
def table(tmp_path):
    def read(rows=ROWS, *, header=HEADER, **options):
        path = tmp_path / "labels.csv"
        path.write_text(header + rows, encoding="utf-8")
        return LabelTable.read(path, **({"classes": LOCATION} | options))

    return read


def stages(**options):
    return {"kind": "multiclass", "classes": STAGES, "column": "stage"} | options


def test_multilabel(table):
    labels = table()
    assert labels.classes == ("lung", "liver") and labels.kind == "multilabel"
    assert [s.label for s in labels.studies] == [(1, 0), (0, 0), (1, 1), (0, 0), (1, 0)]
    assert labels.studies[0].key == study_key("s1")
    assert [s.study for s in labels.split("test")] == ["s5"]
    assert labels.excluded == () and labels.warnings == ()
    np.testing.assert_array_equal(labels.labels("train"), [[1, 0], [0, 0], [1, 1], [0, 0]])


def test_columns_may_be_called_like_the_classes(table):
    rows = "s1,p1,train,1.0,false\ns2,p2,train,0,TRUE\n"
    labels = table(rows, header="study,patient,split,lung,liver\n", classes=["lung", "liver"])
    assert [s.label for s in labels.studies] == [(1, 0), (0, 1)]


def test_multiclass(table):
    labels = table(**stages())
    assert [s.label for s in labels.studies] == [0, 1, 2, 3, 0]
    np.testing.assert_array_equal(labels.labels("train"), np.eye(4))


def test_classes_may_join_values(table):
    joined = {"I-II": ["I", "II"], "III-IV": ["III", "IV"]}
    labels = table(**stages(classes=joined))
    assert labels.classes == ("I-II", "III-IV")
    assert [s.label for s in labels.studies] == [0, 0, 1, 1, 0]


def test_tables_of_spreadsheets_are_read(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEADER + ROWS).replace("\n", "\r\n").encode())
    assert len(LabelTable.read(path, classes=LOCATION).studies) == 5


@pytest.mark.parametrize("missing", ["", "NA", "nan", " "])
def test_missing_labels_and_splits_are_excluded_with_the_reason(table, missing):
    rows = ROWS + f"s6,p6,train,1,{missing},\ns7,p7,{missing},1,0,I\n"
    labels = table(rows)
    assert len(labels.studies) == 5
    assert labels.excluded == (("s6", "no label in location_liver"), ("s7", "no split"))
    assert labels.warnings == ("2 of 7 studies are excluded: 1 × no label in location_liver, 1 × no split",)
    assert table(rows, **stages()).excluded == (("s6", "no label in stage"), ("s7", "no split"))


def test_none_may_be_a_class(table):
    rows = "s1,p1,train,none\ns2,p2,train,mild\n"
    header = "study,patient,split,emphysema\n"
    labels = table(rows, header=header, **stages(classes=["none", "mild"], column="emphysema"))
    assert [s.label for s in labels.studies] == [0, 1]


def test_studies_without_embeddings_are_excluded(table, tmp_path):
    store = EmbeddingStore(tmp_path / "store")
    attributes = dict.fromkeys(
        ("encoder", "weight_sha256", "series_hash", "precision", "windows", "image_size", "fingerprint"), "x"
    )
    for study in ("s1", "s2", "s3", "s5"):
        store.write(study_key(study), np.zeros((2, 3)), instance_coords([0.0], 2), attributes)
    labels = table(store=store)
    assert [s.study for s in labels.studies] == ["s1", "s2", "s3", "s5"]
    (excluded,) = labels.excluded
    assert excluded[0] == "s4" and excluded[1].startswith(f"no embeddings in {store.folder}")
    with pytest.raises(LabelTableError, match="none of 5 labelled studies has embeddings"):
        table(store=EmbeddingStore(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS + "s6,p1,test,0,0,I\n", {}, "one patient is in split 'train' .line 2.*'test' .line 7"),
        (ROWS + "s6,7,train,0,0,I\ns7,007,test,0,0,I\n", {}, "one patient is in split 'train'.*'test'"),
        (ROWS + "s1,p9,test,0,0,I\n", {}, "line 2 and line 7 hold the same study"),
        (ROWS + "s6,,test,0,0,I\n", {}, "line 7 has no patient; all rows need"),
        (ROWS + "s6,p6,test,2,0,I\n", {}, "line 7: location_lung is '2'; expected 0, 1"),
        (ROWS + "s6,p6,test,0,0,V\n", stages(), "line 7: stage is 'V'; expected one of I, II, III, IV"),
        (
            ROWS,
            {"classes": {"bone": "location_bone"}},
            "lacks the columns location_bone; it has study, patient",
        ),
        (ROWS, stages(column="grade"), "lacks the columns grade"),
        (ROWS, stages(column=None), "needs `column`"),
        (ROWS, {"column": "stage"}, "no `column`"),
        (ROWS, stages(classes={"early": ["I", "II"], "late": ["II", "III"]}), "stands for two classes"),
        (ROWS, stages(classes=["I", "I"]), "name one twice"),
        (ROWS, {"classes": []}, "expected a list of names"),
        (ROWS + "s6, the second,p6,test,0,0,I\n", {}, "line 7 has not 6 fields"),
        (ROWS + "s6,p6,test,0\n", {}, "line 7 has not 6 fields"),
        ("", {}, "none of 0 rows"),
        ("s1,p1,train,,,\n", {}, "none of 1 rows has a split and labels"),
    ],
)
def test_tables_that_would_mislead_are_refused(table, rows, options, message):
    with pytest.raises(LabelTableError, match=message):
        table(rows, **options)


def test_refusals_name_no_study_and_no_patient(table):
    for row in (
        "s1,private,test,0,0,I",
        "private,p1,test,0,0,I",
        "private,,test,0,0,I",
        ",private,test,0,0,I",
    ):
        with pytest.raises(LabelTableError) as refused:
            table(ROWS + row + "\n")
        assert "line 7" in str(refused.value) and "private" not in str(refused.value)


def test_missing_file_and_repeated_columns(table, tmp_path):
    with pytest.raises(LabelTableError, match="cannot be read"):
        LabelTable.read(tmp_path / "absent.csv", classes=LOCATION)
    (tmp_path / "latin.csv").write_bytes("study,patient\nM\xfcller,1\n".encode("latin-1"))
    with pytest.raises(LabelTableError, match="cannot be read.*; expected CSV in UTF-8"):
        LabelTable.read(tmp_path / "latin.csv", classes=LOCATION)
    with pytest.raises(LabelTableError, match="columns location_lung twice"):
        table(header=HEADER.replace("stage", "location_lung"))


def test_unknown_split_names_those_there_are(table):
    with pytest.raises(
        LabelTableError,
        match="no usable study in split 'validation'; splits found: test, train.*--validation_split",
    ):
        table().split("validation")


def test_classes_that_cannot_be_learned_are_named(table, caplog):
    rows = ROWS.replace("s3,p2,train,1,1", "s3,p2,train,1,0").replace("train,0", "train,1")
    assert table(rows).warnings == (
        "class 'lung' has no negative study in split 'train': not learnable",
        "class 'liver' has no positive study in split 'train': not learnable",
    )
    assert "class 'liver' has no positive" in caplog.text
    caplog.clear()
    assert table(rows, warn=False).warnings and not caplog.text
    assert table("s5,p4,test,1,0,I\n").warnings == ()  # nothing to train
    named = table(ROWS, **stages(classes=[*STAGES, "0"])).warnings
    assert named == ("class '0' has no positive study in split 'train': not learnable",)


def test_weights_balance_positives_and_classes(table):
    assert pos_weight(table()) == [1.0, 3.0]  # 2 of 4 and 1 of 4 are positive: n_negative / n_positive
    rows = "a,1,train,0,0,I\nb,2,train,0,0,I\nc,3,train,0,0,I\nd,4,train,0,0,II\n"
    assert pos_weight(table(rows)) == [1.0, 1.0]
    always = rows.replace("train,0", "train,1")
    assert pos_weight(table(always)) == [1.0, 1.0]  # no negatives: nothing to balance
    weights = class_weight(table(rows, **stages()))
    assert weights == pytest.approx([4 / 6, 2.0, 1.0, 1.0])
    build_loss("multiclass", weights=weights)


def test_a_table_without_patients_says_what_to_write(tmp_path):
    (tmp_path / "labels.csv").write_text("study,split,location_lung,location_liver\ns1,train,1,0\n")
    with pytest.raises(
        LabelTableError, match="lacks the columns patient; .* repeat the name of the study in it"
    ):
        LabelTable.read(tmp_path / "labels.csv", classes=LOCATION)
    (tmp_path / "labels.csv").write_text("study,patient,location_lung,location_liver\ns1,p1,1,0\n")
    with pytest.raises(LabelTableError, match="lacks the columns split; ") as caught:
        LabelTable.read(tmp_path / "labels.csv", classes=LOCATION)
    assert "repeat" not in str(caught.value)


def test_tables_of_pandas_are_read_like_csv(table, tmp_path, monkeypatch):
    import pandas

    frame = pandas.read_csv(table(ROWS + "s6,p6,train,1,,II\n").path).convert_dtypes()
    frame["location_lung"] = frame["location_lung"].astype("boolean")
    monkeypatch.setattr(pandas, "read_parquet", lambda path, **_: frame)
    found = LabelTable.read(tmp_path / "labels.parquet", classes=LOCATION)
    assert found.studies == table(ROWS).studies
    assert found.excluded == (("s6", "no label in location_liver"),)
    frame.loc[1, "location_liver"] = 5
    with pytest.raises(LabelTableError, match="labels.parquet, row 2: location_liver is '5'"):
        LabelTable.read(tmp_path / "labels.parquet", classes=LOCATION)


def test_parquet_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    import pandas

    def absent(path, **_):
        raise ImportError("no engine")

    monkeypatch.setattr(pandas, "read_parquet", absent)
    with pytest.raises(MissingDependencyError, match="pip install 'pyarrow'"):
        LabelTable.read(tmp_path / "labels.parquet", classes=LOCATION)


def test_parquet_of_pyarrow(table, tmp_path):
    import pandas

    pandas.read_csv(table().path).to_parquet(tmp_path / "labels.parquet")
    assert LabelTable.read(tmp_path / "labels.parquet", classes=LOCATION).studies == table().studies
