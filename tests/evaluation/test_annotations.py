"""Hit rates of a prediction table's key slices, from file to report."""

import json
from dataclasses import replace

import pytest
from made_tables import multilabel_table

from radclear.evaluation import (
    EvaluationError,
    evaluate_predictions,
    key_slice_hits,
    read_predictions,
    table_hits,
    write_predictions,
)

BOXES = "study,slice,kind\ns0,3,primary\ns0,4,node\ns1,9,node\ns2,7,primary\nelsewhere,1,node\n"
RANKED = ((3, 0, 1, 2, 5), (1, 2, 9, 3, 4), (1, 2, 3, 4, 5))


@pytest.fixture
def table():
    small = multilabel_table(n_patients=30)
    key_slices = RANKED + ((0, 1, 2, 3, 4),) * (small.n_studies - 3)
    return replace(small, key_slices=key_slices, n_slices=(12,) * small.n_studies)


@pytest.fixture
def boxes(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(BOXES)
    return path


def test_hits(table, boxes):
    found = table_hits(table, boxes, n_resamples=50)
    assert [(hit.k, hit.n_hit, hit.n_studies, hit.n_patients) for hit in found.hits] == [
        (1, 1, 3, 2),
        (3, 2, 3, 2),
        (5, 2, 3, 2),
    ]
    expected = key_slice_hits(
        dict(zip(("s0", "s1", "s2"), RANKED, strict=True)),
        {"s0": [3, 4], "s1": [9], "s2": [7]},
        n_slices={"s0": 12, "s1": 12, "s2": 12},
        n_resamples=10,
    )
    assert [hit.chance for hit in found.hits] == [hit.chance for hit in expected]
    nodes = table_hits(table, boxes, kinds=("node",), n_resamples=50)
    assert [(hit.n_hit, hit.n_studies) for hit in nodes.hits] == [(0, 2), (1, 2), (1, 2)]


def test_ks_that_a_study_has_no_slices_for_are_left_out_and_said(table, boxes):
    short = replace(table, key_slices=(RANKED[0][:3], *table.key_slices[1:]))
    found = table_hits(short, boxes, n_resamples=10)
    assert [hit.k for hit in found.hits] == [1, 3]
    assert found.warnings == ("hit@5 left out: a study has only 3 key slices.",)


@pytest.mark.parametrize(
    ("text", "kinds", "message"),
    [
        ("study,slice\n", (), "has a header and no rows"),
        ("study,z\ns0,1\n", (), "lacks the column slice"),
        ("study,slice\ns0,1\n", ("node",), "lacks the column kind"),
        ("study,slice\ns0,-1\n", (), "slice is '-1'; expected a number from 0"),
        ("study,slice\nx,1\n", (), "annotates 1 studies, none of which is in made.csv"),
        (BOXES, ("mass",), "no box of kind mass; it has node, primary"),
    ],
)
def test_malformed_boxes(table, tmp_path, text, kinds, message):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=message):
        table_hits(table, path, kinds=kinds)


def test_tables_without_key_slices(table, boxes):
    with pytest.raises(EvaluationError, match="no column key_slices"):
        table_hits(replace(table, key_slices=None), boxes)
    with pytest.raises(EvaluationError, match="empty key_slices field"):
        table_hits(replace(table, key_slices=((), *table.key_slices[1:])), boxes)


def written(table, path, **changes):
    return write_predictions(
        path,
        **{
            "studies": table.studies,
            "patients": table.patients,
            "splits": ["test"] * table.n_studies,
            "probabilities": table.probabilities,
            "labels": table.truth,
            "kind": table.kind,
            "classes": table.classes,
            "key_slices": table.key_slices,
            "n_slices": table.n_slices,
            **changes,
        },
    )


def test_key_slices_survive_the_file(table, tmp_path):
    read = read_predictions(written(table, tmp_path / "p.csv"))
    assert read.key_slices == table.key_slices and read.n_slices == table.n_slices
    with pytest.raises(EvaluationError, match="n_slices of 1 studies; expected one for each of 60"):
        written(table, tmp_path / "q.csv", n_slices=[12])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3 0 1 2 5", "3 0 1 2 3", "each once"),
        ("3 0 1 2 5", "3 0 x", "slice numbers from 0"),
        ("3 0 1 2 5,12", "3 0 1 2 5,5", "n_slices is '5'"),
        ("3 0 1 2 5,12", "3 0 1 2 5,", "n_slices is ''"),
    ],
)
def test_malformed_key_slices(table, tmp_path, old, new, message):
    path = written(table, tmp_path / "p.csv")
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(EvaluationError, match=message):
        read_predictions(path)


def test_in_the_report(table, boxes, tmp_path):
    path = written(table, tmp_path / "p.csv")
    done = evaluate_predictions(path, tmp_path / "out", boxes=boxes, box_kinds=("node",), n_resamples=20)
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())["key_slices"]
    assert document["hits"]["hit@3"]["value"] == done.key_slices.hits[1].rate.value == 0.5
    assert (document["n_studies"], document["n_studies_annotated"]) == (60, 2)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert (
        "2 studies with annotated slices of kind node" in page
        and "hit@3" in page
        and "prevalence: 3.3 %" in page
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["inputs"]["boxes"]["name"] == "boxes.csv" and manifest["settings"]["box_kinds"] == [
        "node"
    ]
