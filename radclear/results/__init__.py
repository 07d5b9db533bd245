"""Results of a study: a checked document, a page for people, a table and a manifest of the run."""

from radclear.results.answer import ModelProvenance, ResultError, TaskAnswer
from radclear.results.document import build_result
from radclear.results.html import render_html
from radclear.results.markups import answer_name, key_slice_markups
from radclear.results.nrrd import write_nrrd
from radclear.results.overlay import attention_overlay, overlay_labels, overlay_names
from radclear.results.summary import StudyOutcome, write_manifest, write_summary
from radclear.results.validation import RESULT_SCHEMA_VERSION, result_schema, validate_result
from radclear.results.write import read_result, write_atomically, write_result

__all__ = [
    "RESULT_SCHEMA_VERSION",
    "ModelProvenance",
    "ResultError",
    "StudyOutcome",
    "TaskAnswer",
    "answer_name",
    "attention_overlay",
    "build_result",
    "key_slice_markups",
    "overlay_labels",
    "overlay_names",
    "read_result",
    "render_html",
    "result_schema",
    "validate_result",
    "write_atomically",
    "write_manifest",
    "write_nrrd",
    "write_result",
    "write_summary",
]
