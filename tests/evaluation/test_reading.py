"""Prediction tables: what is accepted, and one sentence for everything that is not."""

import numpy as np
import pytest

from radclear.evaluation import EvaluationError, read_predictions, write_predictions

MULTILABEL = """study,patient,split,probability_bone,probability_lung,label_bone,label_lung
s1,p1,test,0.1,0.9,0,1
s2,p1,test,0.2,0.8,0,1
s3,p2,test,0.7,0.3,1,0
"""
STAGES = """study,patient,probability_I,probability_II,probability_III,stage
s1,p1,0.7,0.2,0.1,I
s2,p2,0.1,0.3,0.6,III
s3,p3,0.1,0.8,0.1,
"""


def written(tmp_path, text, name="predictions.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_multilabel(tmp_path):
    table = read_predictions(written(tmp_path, MULTILABEL))
    assert (table.kind, table.classes, table.n_studies, table.n_patients) == (
        "multilabel",
        ("bone", "lung"),
        3,
        2,
    )
    np.testing.assert_array_equal(table.probabilities, [[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    np.testing.assert_array_equal(table.truth, [[0, 1], [0, 1], [1, 0]])
    assert table.splits == ("test",) * 3 and table.folds is None and len(table.sha256) == 64


def test_stages_are_ordinal_and_studies_without_one_are_listed(tmp_path):
    table = read_predictions(written(tmp_path, STAGES))
    assert (table.kind, table.studies) == ("ordinal", ("s1", "s2"))
    np.testing.assert_array_equal(table.truth, [[1, 0, 0], [0, 0, 1]])
    assert table.excluded == ((4, "s3", "no label in stage"),)
    assert table.warnings == ("1 of 3 studies are left out: no label in stage.",)
    assert read_predictions(written(tmp_path, STAGES.replace("stage", "label"))).kind == "multiclass"
    as_told = read_predictions(written(tmp_path, STAGES.replace("stage", "label")), kind="ordinal")
    assert as_told.kind == "ordinal"


@pytest.mark.parametrize("kind", ["multilabel", "multiclass", "ordinal"])
def test_what_write_predictions_writes_is_accepted_as_it_is(tmp_path, kind):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 20)
    truth = np.eye(3, dtype=bool)[rng.integers(0, 3, 20)]
    path = write_predictions(
        tmp_path / "p.csv",
        studies=[f"folder/study, {i}" for i in range(20)],
        patients=[f"p{i // 2}" for i in range(20)],
        splits=["test"] * 20,
        probabilities=probabilities,
        labels=truth,
        kind=kind,
        classes=("I", "II", "III"),
    )
    table = read_predictions(path)
    assert table.kind == kind and table.studies[3] == "folder/study, 3"
    np.testing.assert_allclose(table.probabilities, probabilities, rtol=1e-8)
    np.testing.assert_array_equal(table.truth, truth)


def test_saved_by_a_spreadsheet(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes(
        b"\xef\xbb\xbf" + MULTILABEL.replace("\n", "\r\n").replace("label_bone", " label_bone ").encode()
    )
    assert read_predictions(path).n_studies == 3


def test_wanted_classes_set_the_order(tmp_path):
    table = read_predictions(written(tmp_path, MULTILABEL), classes=("lung", "bone"))
    assert table.classes == ("lung", "bone")
    np.testing.assert_array_equal(table.probabilities[0], [0.9, 0.1])
    np.testing.assert_array_equal(table.truth[0], [1, 0])


def test_splits_are_chosen_not_mixed(tmp_path):
    path = written(tmp_path, MULTILABEL.replace("s3,p2,test", "s3,p2,train"))
    with pytest.raises(
        EvaluationError, match=r"test \(2 studies\), train \(1 studies\); choose one with --split"
    ):
        read_predictions(path)
    table = read_predictions(path, split="test")
    assert (table.studies, table.split) == (("s1", "s2"), "test")
    with pytest.raises(EvaluationError, match="no study in split 'val'"):
        read_predictions(path, split="val")
    with pytest.raises(EvaluationError, match="no split column"):
        read_predictions(written(tmp_path, STAGES), split="test")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("study,", "name,", "lacks the column study"),
        ("patient,", "who,", "lacks the column patient; .* repeat the name of the study in it"),
        ("probability_bone,probability_lung", "bone,lung", "lacks the column probability_<class>"),
        ("label_bone,label_lung", "label_bone,other", "lacks the column label_lung"),
        ("label_bone,label_lung", "label_bone,label_liver", "unknown class liver"),
        ("label_bone,label_lung", "label_bone,label_bone", "column 'label_bone' twice"),
        ("label_bone,label_lung", "label,label_lung", "either label_<class> for every class"),
        ("0.1,0.9,0,1", "1.2,0.9,0,1", "line 2: probability_bone is '1.2'; expected a probability"),
        ("0.1,0.9,0,1", "-0.1,0.9,0,1", "probability from 0 to 1"),
        ("0.1,0.9,0,1", "nan,0.9,0,1", "probability_bone is 'nan'"),
        ("0.1,0.9,0,1", "NaN,0.9,0,1", "probability_bone is 'NaN'"),
        ("0.1,0.9,0,1", ",0.9,0,1", "probability_bone is ''"),
        ("0.1,0.9,0,1", "inf,0.9,0,1", "probability_bone is 'inf'"),
        ("0.1,0.9,0,1", "high,0.9,0,1", "probability_bone is 'high'"),
        ("0.1,0.9,0,1", "0.1,0.9,0,2", "label_lung is '2'; expected 0, 1 or nothing"),
        ("0.1,0.9,0,1", "0.1,0.9,0,1,7", "line 2 has 8 fields where the header has 7"),
        ("0.1,0.9,0,1", "0.1,0.9,0", "line 2 has 6 fields"),
        ("s2,", "s1,", "lines 2 and 3 hold the same study"),
        ("s2,p1", "s2,", "line 3 has no patient"),
        ("s2,p1", ",p1", "line 3 has no study"),
        ("s2,p1,test", "s2,p1,train", "one patient is in split 'test'"),
        (",0,1\n", ",,1\n", None),
        (",", ";", "comma-separated"),
    ],
)
def test_malformed_tables(tmp_path, old, new, message):
    path = written(tmp_path, MULTILABEL.replace(old, new))
    if message is None:  # labels may be empty: those studies are left out and listed
        assert [reason for *_, reason in read_predictions(path).excluded] == ["no label in label_bone"] * 2
        return
    with pytest.raises(EvaluationError, match=message) as error:
        read_predictions(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (MULTILABEL.splitlines()[0], "has a header and no rows"),
        ('study,patient\n"open', "not a comma-separated UTF-8 file"),
        (STAGES.replace(",III\n", ",IX\n"), "stage is 'IX', an unknown class; expected one of I, II, III"),
        (STAGES.replace(",III\n", ",\n").replace(",I\n", ",na\n"), "none of 3 studies has labels"),
        ("study,patient,probability_a\ns1,p1,0.5\n", "no label columns.*--labels"),
        (MULTILABEL.replace("split", "fold").replace("p1,test,0.2", "p1,two,0.2"), "one patient is in fold"),
    ],
)
def test_malformed_texts(tmp_path, text, message):
    with pytest.raises(EvaluationError, match=message) as error:
        read_predictions(written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_predictions(tmp_path / "absent.csv")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\r\n\x00\xff")
    with pytest.raises(EvaluationError, match="UTF-8"):
        read_predictions(tmp_path / "image.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("bone",)}, "unknown class lung; expected bone"),
        ({"classes": ("bone", "lung", "liver")}, "lacks the column probability_liver"),
        ({"kind": "ordinal"}, "which ordinal tables do not have"),
        ({"kind": "regression"}, "expected one of multilabel"),
    ],
)
def test_tables_of_another_task(tmp_path, options, message):
    with pytest.raises(EvaluationError, match=message):
        read_predictions(written(tmp_path, MULTILABEL), **options)
    with pytest.raises(EvaluationError, match="one label column, stage"):
        read_predictions(written(tmp_path, STAGES), kind="multilabel")


def test_decisions_in_place_of_probabilities_are_refused(tmp_path):
    """Error 1 of the method's published code: AUROC of thresholded answers."""
    text = MULTILABEL
    for before, after in (("0.1,0.9", "0,1"), ("0.2,0.8", "0,1"), ("0.7,0.3", "1,0")):
        text = text.replace(before, after)
    with pytest.raises(EvaluationError, match="holds only 0 and 1, which are decisions"):
        read_predictions(written(tmp_path, text))


def test_doubtful_probabilities_are_said(tmp_path):
    constant = read_predictions(
        written(tmp_path, MULTILABEL.replace("0.2,0.8", "0.1,0.9").replace("0.7,", "0.1,"))
    )
    assert constant.warnings == ("All studies have the same probability of bone; it ranks nothing.",)
    off = read_predictions(written(tmp_path, STAGES.replace("0.1,0.3,0.6", "0.1,0.3,0.9")))
    assert any("probabilities of 1 studies do not sum to 1" in warning for warning in off.warnings)


PLAIN = "\n".join(",".join(line.split(",")[:5]) for line in MULTILABEL.splitlines())


@pytest.mark.parametrize("columns", ["label_bone,label_lung", "bone,lung", "site_bone,disease_lung"])
def test_labels_beside_the_table(tmp_path, columns):
    labels = written(tmp_path, f"study,{columns}\ns3,1,0\ns1,0,1\ns2,0,1\ns9,1,1\n", "labels.csv")
    table = read_predictions(written(tmp_path, PLAIN), labels=labels)
    np.testing.assert_array_equal(table.truth, [[0, 1], [0, 1], [1, 0]])
    assert table.warnings == ("1 studies of the label table have no prediction here.",)


def test_labels_beside_the_table_replace_its_own_and_say_so(tmp_path):
    labels = written(tmp_path, "study,patient,bone,lung\ns1,p1,1,1\ns2,p1,0,1\n", "labels.csv")
    table = read_predictions(written(tmp_path, MULTILABEL), labels=labels)
    assert table.truth.tolist() == [[True, True], [False, True]]
    assert table.excluded == ((4, "s3", "not in the label table"),)
    assert any("differ for 1 studies" in warning for warning in table.warnings)


def test_stage_beside_the_table(tmp_path):
    labels = written(tmp_path, "study,stage\ns1,II\ns2,III\ns3,\n", "labels.csv")
    text = "\n".join(line.rsplit(",", 1)[0] for line in STAGES.splitlines())
    table = read_predictions(written(tmp_path, text), labels=labels)
    assert table.kind == "ordinal" and table.truth.argmax(axis=1).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study,bone\ns1,1\n", "for the class lung; expected label_<class>"),
        ("study,a_bone,b_bone,lung\ns1,1,0,1\n", "more than one, for the class bone"),
        ("study,bone,lung\ns1,1,1\ns1,0,1\n", "hold the same study"),
        ("study,patient,bone,lung\ns1,px,1,1\n", "another patient"),
        ("patient,bone,lung\np1,1,1\n", "lacks the column study"),
        ("study,bone,lung\ns1,maybe,1\n", "bone is 'maybe'"),
    ],
)
def test_malformed_label_tables(tmp_path, text, message):
    labels = written(tmp_path, text, "labels.csv")
    with pytest.raises(EvaluationError, match=message):
        read_predictions(written(tmp_path, PLAIN), labels=labels)
