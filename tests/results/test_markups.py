"""Key slices as Slicer markups: named after the answer, at the right place in the patient."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from radclear.results import ResultError, answer_name, key_slice_markups


def markups(result, task="tumor_location") -> dict:
    document = json.loads(json.dumps(key_slice_markups(result, task), allow_nan=False))
    (listed,) = document["markups"]
    return listed


def test_one_locked_list_is_named_after_class_and_probability(result):
    listed = markups(result)
    assert listed["name"] == "Tumor location: Lung 0.93 (demonstration weights)"
    assert listed["locked"] and listed["type"] == "Fiducial" and listed["coordinateSystem"] == "LPS"
    assert all(point["locked"] for point in listed["controlPoints"])
    assert markups(result, "staging")["name"] == "Staging: Stage III 0.61"


def test_each_key_slice_has_a_point_that_says_where_and_how_much(result):
    labels = [point["label"] for point in markups(result)["controlPoints"]]
    assert [label.split()[:2] for label in labels] == [["#1", "S17"], ["#2", "S18"], ["#3", "S5"]]
    assert all(re.fullmatch(r"#\d S\d+ Lung 0\.93 att [<0]*\.?\d*\.?\d+", label) for label in labels)


def test_points_lie_in_the_middle_of_their_slice(make):
    study = make.study(shape=(24, 80, 96))
    entry = markups(make.result(study))
    for point, index in zip(entry["controlPoints"], (16, 17, 4), strict=True):
        voxel = np.linalg.solve(study.affine, [*point["position"], 1.0])
        assert voxel[:3] == pytest.approx([47.5, 39.5, index], abs=1e-3)


def test_an_unknown_task_is_refused_with_those_there_are(result):
    with pytest.raises(ResultError, match="tumor_location, staging"):
        key_slice_markups(result, "lung_disease")


def test_demonstration_weights_are_named_wherever_the_answer_is(make, study):
    real = make.result(study, make.location(model=make.provenance(demonstration=False)))
    assert "demonstration" not in answer_name(real["tasks"][0])
