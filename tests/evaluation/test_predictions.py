"""The prediction table, read back with another reader."""

import numpy as np
import pandas as pd
import pytest

from radclear.evaluation import EvaluationError, write_predictions

WHO = {"studies": ["s,1", "s2"], "patients": ["p1", "p2"], "splits": ["test", "test"]}
PROBABILITIES = np.array([[0.1, 0.9], [1e-7, 0.123456789]])


def test_multilabel_table(tmp_path):
    path = write_predictions(
        tmp_path / "new" / "predictions.csv",
        **WHO,
        probabilities=PROBABILITIES,
        labels=np.array([[0.0, 1.0], [1.0, 1.0]]),
        kind="multilabel",
        classes=("bone", "lung"),
        folds=[2, 0],
    )
    table = pd.read_csv(path)
    assert table.pop("fold").tolist() == [2, 0]
    assert list(table) == [
        "study",
        "patient",
        "split",
        "probability_bone",
        "probability_lung",
        "label_bone",
        "label_lung",
    ]
    assert table["study"].tolist() == WHO["studies"]
    np.testing.assert_allclose(table[["probability_bone", "probability_lung"]], PROBABILITIES, rtol=1e-8)
    assert table[["label_bone", "label_lung"]].values.tolist() == [[0, 1], [1, 1]]
    assert [p.name for p in path.parent.iterdir()] == ["predictions.csv"]


@pytest.mark.parametrize("labels", [np.array([1, 0]), np.array([[0, 1], [1, 0]])])
def test_multiclass_table(tmp_path, labels):
    path = write_predictions(
        tmp_path / "predictions.csv",
        **WHO,
        probabilities=PROBABILITIES,
        labels=labels,
        kind="multiclass",
        classes=("I", "II"),
    )
    assert pd.read_csv(path)["label"].tolist() == ["II", "I"]


def test_table_without_labels(tmp_path):
    path = write_predictions(
        tmp_path / "p.csv",
        **WHO,
        probabilities=PROBABILITIES,
        labels=None,
        kind="multiclass",
        classes=("I", "II"),
    )
    assert list(pd.read_csv(path)) == ["study", "patient", "split", "probability_I", "probability_II"]


def test_rows_must_fit(tmp_path):
    with pytest.raises(EvaluationError, match=r"\[2, 2\].*each of 3 classes"):
        write_predictions(
            tmp_path / "p.csv",
            **WHO,
            probabilities=PROBABILITIES,
            labels=None,
            kind="multilabel",
            classes=("a", "b", "c"),
        )
    with pytest.raises(EvaluationError, match=r"labels have shape \[2\]"):
        write_predictions(
            tmp_path / "p.csv",
            **WHO,
            probabilities=PROBABILITIES,
            labels=np.array([0, 1]),
            kind="multilabel",
            classes=("a", "b"),
        )
    assert not list(tmp_path.iterdir())
