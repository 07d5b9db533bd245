"""Check a result document against the published schema, and against itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources

from radclear.errors import MissingDependencyError
from radclear.results.answer import ATTENTION_SUM_TOLERANCE, PROBABILITY_SUM_TOLERANCE, ResultError

RESULT_SCHEMA_VERSION = "1.0"

_LONG_LIST = 8  # numbers; longer than any list whose length the schema limits


def validate_result(result: dict) -> None:
    """Check a document against the schema, and what a schema cannot say: sums, lengths, indices, no NaN.

    Args:
        result: a document, as built or as read from a JSON file.

    Raises:
        ResultError: names each place that is wrong, up to five.
        MissingDependencyError: jsonschema is not installed.
    """
    problems = [f"{place} is {value}; expected a finite number" for place, value in _not_finite(result)]
    if not problems and not _validator().is_valid(_abridged(result)):
        found = sorted(
            _validator().iter_errors(result), key=lambda error: [str(part) for part in error.absolute_path]
        )
        problems = [f"{_place(error.absolute_path)}: {error.message}" for error in found]
    if not problems:
        problems = list(_contradictions(result))
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise ResultError(f"not a radclear result {RESULT_SCHEMA_VERSION}: " + "; ".join(problems[:5]) + more)


def result_schema() -> dict:
    """The published JSON Schema of the result document."""
    file = resources.files("radclear.results") / "schema" / f"result-{RESULT_SCHEMA_VERSION}.json"
    return json.loads(file.read_text(encoding="utf-8"))


@cache
def _validator():
    try:
        import jsonschema
    except ImportError as error:
        raise MissingDependencyError("jsonschema", purpose="check a result against its schema") from error
    # The server's pins hold jsonschema at 3.x, which ends at draft 7; the schema keeps to what both share.
    draft = getattr(jsonschema, "Draft202012Validator", jsonschema.Draft7Validator)
    schema = result_schema()
    return draft(_without_references(schema, schema["$defs"]))


def _without_references(part: object, definitions: dict) -> object:
    """The schema with every definition in place, so that none is looked up for each number of a document."""
    if isinstance(part, dict):
        if "$ref" in part:
            return _without_references(definitions[part["$ref"].rsplit("/", 1)[1]], definitions)
        return {
            name: _without_references(item, definitions) for name, item in part.items() if name != "$defs"
        }
    if isinstance(part, list):
        return [_without_references(item, definitions) for item in part]
    return part


def _abridged(value: object) -> object:
    """The document with only the smallest and the largest of each long list of floats.

    The schema bounds the numbers of such lists and nothing else, so these two stand for all, repeated so that
    the list stays long. Most of a document is attention, which jsonschema checks number by number in Python.
    """
    if isinstance(value, dict):
        return {key: _abridged(item) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) > _LONG_LIST and all(type(item) is float for item in value):
            return [min(value), max(value)] * 4
        return [_abridged(item) for item in value]
    return value


def _not_finite(value: object, place: str = "result"):
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{place}[{index}]")


def _place(path) -> str:
    return "result" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _contradictions(result: dict):
    """What the schema cannot express. The document has passed the schema."""
    n_slices = result["geometry"]["n_slices"]
    z_mm = result["geometry"]["slice_z_mm"]
    if len(z_mm) != n_slices:
        yield f"result.geometry.slice_z_mm has {len(z_mm)} numbers; expected n_slices = {n_slices}"
        return
    for number, task in enumerate(result["tasks"]):
        place = f"result.tasks[{number}]"
        total = sum(task["attention"])
        if len(task["attention"]) != n_slices:
            yield f"{place}.attention has {len(task['attention'])} numbers; expected n_slices = {n_slices}"
        elif abs(total - 1) > ATTENTION_SUM_TOLERANCE:
            yield f"{place}.attention sums to {total:.6f}; expected 1 ± {ATTENTION_SUM_TOLERANCE:g}"
        probabilities = [entry["probability"] for entry in task["classes"]]
        if task["kind"] != "multilabel" and abs(sum(probabilities) - 1) > PROBABILITY_SUM_TOLERANCE:
            yield f"{place}: {task['kind']} probabilities sum to {sum(probabilities):.6f}; expected 1"
        if task["top_class"] not in [entry["name"] for entry in task["classes"]]:
            yield f"{place}.top_class is {task['top_class']!r}, which is none of its classes"
        for rank, key in enumerate(task["key_slices"]):
            where = f"{place}.key_slices[{rank}]"
            if key["index"] >= n_slices or key["number"] != key["index"] + 1 or key["rank"] != rank + 1:
                yield (
                    f"{where} has index {key['index']}, number {key['number']}, rank {key['rank']}; expected "
                    f"an index below {n_slices}, number = index + 1 and rank {rank + 1}"
                )
            elif abs(key["z_mm"] - z_mm[key["index"]]) > 1e-3:
                yield f"{where}.z_mm is {key['z_mm']}; expected {z_mm[key['index']]}, the z of its slice"
    for number, finding in enumerate(result["findings"]):
        if any(index >= n_slices for index in finding["slices"]):
            yield f"result.findings[{number}].slices names a slice beyond the last index {n_slices - 1}"
