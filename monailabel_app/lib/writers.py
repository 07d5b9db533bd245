"""Answers in the shapes that MONAI Label's clients read."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radclear.bundle import StudyPrediction
from radclear.ct.source_grid import SourceGrid
from radclear.results import (
    attention_overlay,
    key_slice_markups,
    overlay_names,
    write_nrrd,
)
from radclear.results.reading import banners, class_rows
from radclear.results.wording import ATTENTION_MEANING, score_meaning, task_title, verdict


def answer_json(prediction: StudyPrediction, notes: tuple[str, ...]) -> dict[str, Any]:
    """What every entry returns: MONAI Label's `prediction`, and radclear's whole result document.

    Args:
        prediction: with one answer.
        notes: about how it was made.
    """
    (entry,) = prediction.result["tasks"]
    return {
        "prediction": [
            {"idx": index, "label": c["name"], "score": c["probability"]}
            for index, c in enumerate(entry["classes"])
        ],
        "label_names": {},
        "notes": list(notes),
        "reading": reading_json(prediction.result, entry),
        "result": prediction.result,
    }


def reading_json(result: dict, entry: dict) -> dict[str, Any]:
    """The answer in words, for clients that show it and have none of their own.

    Args:
        result: a result document.
        entry: one of its tasks.
    """
    return {
        "title": task_title(entry["task"]),
        "question": entry["question"],
        "verdict": verdict(entry),
        "meaning": score_meaning(entry),
        "attention_meaning": ATTENTION_MEANING,
        "classes": [asdict(row) for row in class_rows(entry)],
        "banners": [asdict(banner) for banner in banners(result)],
    }


def write_findings(prediction: StudyPrediction) -> str:
    """A temporary file with the key slices as markups; the caller removes it."""
    (entry,) = prediction.result["tasks"]
    path = _temporary(".json")
    document = key_slice_markups(prediction.result, entry["task"])
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return str(path)


def write_overlay(prediction: StudyPrediction, *, n_key_slices: int) -> tuple[str, dict[str, int]]:
    """A temporary file with the overlay on the source's grid, and the names of its values.

    Args:
        prediction: with one answer.
        n_key_slices: see `radclear.results.attention_overlay`.
    """
    (entry,) = prediction.result["tasks"]
    study = prediction.study
    labels = attention_overlay(prediction.result, entry["task"], n_key_slices=n_key_slices)
    grid = study.source_grid or SourceGrid.canonical(study.affine, study.hu.shape)
    path = write_nrrd(_temporary(".nrrd"), labels, grid)
    return str(path), overlay_names(prediction.result, entry["task"], n_key_slices=n_key_slices)


def _temporary(suffix: str) -> Path:
    handle, path = tempfile.mkstemp(prefix="radclear-", suffix=suffix)
    os.close(handle)
    return Path(path)
