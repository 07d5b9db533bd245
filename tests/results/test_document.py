from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from radclear.results import RESULT_SCHEMA_VERSION, ResultError, result_schema, validate_result
from radclear.results.validation import _validator


def test_the_document_says_what_the_answers_said(make):
    study = make.study()
    result = make.result(study, make.location(), make.staging(), device="cpu")
    location, staging = result["tasks"]
    assert result["schema_version"] == RESULT_SCHEMA_VERSION
    assert location["top_class"] == "lung" and staging["top_class"] == "III"
    lung = location["classes"][4]
    assert lung == {
        "name": "lung",
        "label": "Lung",
        "probability": 0.93,
        "operating_point": 0.4,
        "above_operating_point": True,
    }
    assert [entry["above_operating_point"] for entry in location["classes"]].count(None) == 6
    first = location["key_slices"][0]
    assert (first["rank"], first["index"], first["number"], first["z_mm"]) == (1, 16, 17, 20.0)
    assert (
        first["sop_instance_uid_sha256"] == hashlib.sha256(study.sop_instance_uids[16].encode()).hexdigest()
    )
    assert first["attention"] == pytest.approx(make.attention(16)[16], abs=1e-7)
    assert np.allclose(location["attention"], make.attention(16), atol=1e-7)
    assert result["geometry"]["spacing_mm"] == {"x": 0.8, "y": 0.8, "z": 5.0}
    assert result["geometry"]["z_range_mm"] == [-60.0, 55.0]
    assert result["seconds"] == {"read": 0.5, "embed": 2.25, "total": 2.75}
    assert result["provenance"]["device"] == "cpu"
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_warnings_name_weights_calibration_and_geometry(result):
    found = {(warning["code"], warning["task"]) for warning in result["warnings"]}
    assert found == {("demonstration_weights", "tumor_location"), ("uncalibrated", "staging"), ("gap", None)}


def test_a_clean_study_with_trained_weights_has_no_warnings(make):
    study = replace(make.study(), findings=())
    result = make.result(study, make.location(model=make.provenance(demonstration=False)))
    assert result["warnings"] == [] and result["findings"] == []


def _places(schema: dict, definition: dict, path: tuple = ()):
    """Every required field of the schema as a path into a document, first element of each list."""
    reference = definition.get("$ref")
    if reference:
        definition = schema["$defs"][reference.rsplit("/", 1)[1]]
    for name in definition.get("required", ()):
        yield (*path, name)
    for name, part in definition.get("properties", {}).items():
        yield from _places(schema, part, (*path, name))
    if isinstance(definition.get("items"), dict):
        yield from _places(schema, definition["items"], (*path, 0))


REQUIRED = [path for path in _places(result_schema(), result_schema()) if "identifiers" not in path[:-1]]


def test_the_schema_names_enough_required_fields():
    assert len(REQUIRED) > 60 and ("tasks", 0, "model", "weights_sha256") in REQUIRED


@pytest.mark.parametrize("path", REQUIRED, ids=lambda path: ".".join(map(str, path)))
def test_without_a_required_field_the_document_is_refused(result, path):
    broken = copy.deepcopy(result)
    owner = broken
    for part in path[:-1]:
        owner = owner[part]
    del owner[path[-1]]
    with pytest.raises(ResultError, match=f"'{path[-1]}' is a required property"):
        validate_result(broken)


def _objects(schema: dict):
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from _objects(part)


def test_every_field_is_described_and_no_object_is_open():
    schema = result_schema()
    for part in _objects(schema):
        assert part["additionalProperties"] is False
        for name, field in part.get("properties", {}).items():
            target = schema["$defs"][field["$ref"].rsplit("/", 1)[1]] if "$ref" in field else field
            assert field.get("description") or target.get("description"), name


def test_the_schema_is_valid_and_every_draft_at_hand_agrees(result):
    jsonschema = pytest.importorskip("jsonschema")
    schema = result_schema()
    bad = copy.deepcopy(result)
    bad["tasks"][0]["classes"][0]["probability"] = 1.5
    del bad["tasks"][1]["model"]["precision"]
    bad["study"]["series_hash"] = "x"
    for name in ("Draft7Validator", "Draft202012Validator"):
        draft = getattr(jsonschema, name, None)
        if draft is None:
            continue
        draft.check_schema({key: value for key, value in schema.items() if key != "$schema"})
        assert not list(draft(schema).iter_errors(result))
        assert len(list(draft(schema).iter_errors(bad))) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: r["tasks"][0]["classes"][0].update(probability=1.01),
            "1.01 is greater than the maximum of 1",
        ),
        (
            lambda r: r["tasks"][0]["classes"][0].update(probability=float("nan")),
            "probability is nan; expected a fini",
        ),
        (lambda r: r["geometry"]["slice_z_mm"].__setitem__(3, float("inf")), r"slice_z_mm\[3\] is inf"),
        (lambda r: r["tasks"][0]["attention"].__setitem__(0, 0.5), r"tasks\[0\].attention sums to 1.4"),
        (lambda r: r["tasks"][0]["attention"].pop(), "has 23 numbers; expected n_slices = 24"),
        (
            lambda r: r["tasks"][1]["classes"][0].update(probability=0.5),
            "multiclass probabilities sum to 1.42",
        ),
        (lambda r: r["tasks"][1].update(top_class="V"), "'V', which is none of its classes"),
        (lambda r: r["tasks"][0]["key_slices"][0].update(index=30), "has index 30, number 17"),
        (lambda r: r["tasks"][0]["key_slices"][0].update(z_mm=0.0), "z_mm is 0.0; expected 20.0"),
        (lambda r: r["findings"][0].update(slices=[24]), "beyond the last index 23"),
        (lambda r: r.update(patient_name="DOE"), "Additional properties are not allowed"),
        (lambda r: r["study"].update(study_key="../x"), "study_key"),
        (lambda r: r["seconds"].update(read=-1.0), "seconds.read"),
        (lambda r: r["tasks"].clear(), "tasks"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(result, change, message):
    change(result)
    with pytest.raises(ResultError, match=message):
        validate_result(result)


def test_the_schema_that_checks_is_the_published_one_without_references():
    def named(part) -> int:
        if isinstance(part, dict):
            return ("$ref" in part) + sum(named(item) for item in part.values())
        return sum(named(item) for item in part) if isinstance(part, list) else 0

    published, used = result_schema(), _validator().schema
    assert named(published) > 10 and named(used) == 0
    definitions = published["$defs"]
    assert used["properties"]["tasks"]["items"]["required"] == definitions["task"]["required"]
    attention = used["properties"]["tasks"]["items"]["properties"]["attention"]
    assert attention["items"] == definitions["probability"]


@pytest.mark.parametrize("value", [-1.0, 1.5, "0.1", None, True])
@pytest.mark.parametrize("index", [0, 11, 23])
def test_one_bad_number_in_a_long_list_is_named(result, value, index):
    result["tasks"][0]["attention"][index] = value
    with pytest.raises(ResultError, match=rf"tasks\[0\]\.attention\[{index}\]: "):
        validate_result(result)


def test_answers_must_fit_the_study(make):
    study = make.study()
    with pytest.raises(ResultError, match="attention for 12 slices, but the study has 24"):
        make.result(study, make.location(attention=make.attention(3, 12), key_slices=(3,)))
    with pytest.raises(ResultError, match="expected each once"):
        make.result(study, make.location(), make.location())
    with pytest.raises(ResultError, match="24 slices, 23 z positions"):
        make.result(replace(study, z_mm=study.z_mm[:-1]))
    with pytest.raises(ResultError, match="slice_z_mm.*is nan"):
        make.result(replace(study, z_mm=np.full(24, np.nan)))


def test_a_study_without_uids_has_null_hashes(make):
    study = make.study()
    series = replace(study.series, series_uid="", study_uid="", source_format="nifti")
    result = make.result(replace(study, sop_instance_uids=(), series=series), identifiers=True)
    key = result["tasks"][0]["key_slices"][0]
    assert key["sop_instance_uid_sha256"] is None and key["sop_instance_uid"] is None
    assert result["study"]["series_uid_sha256"] is None
    assert result["study"]["identifiers"]["series_instance_uid"] is None
