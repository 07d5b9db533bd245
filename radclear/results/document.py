"""Build the result document of a study from the answers of its heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone

import numpy as np

from radclear import __version__
from radclear.ct.study import Study
from radclear.privacy import hash_uid, path_names, redact
from radclear.results.answer import (
    ResultError,
    TaskAnswer,
)
from radclear.results.validation import RESULT_SCHEMA_VERSION, validate_result
from radclear.results.wording import INTENDED_USE, class_label, task_question, task_title


def build_result(
    study: Study,
    answers: Sequence[TaskAnswer],
    *,
    study_key: str,
    seconds: Mapping[str, float],
    device: str | None = None,
    identifiers: bool = False,
) -> dict:
    """Put the answers to one study into a document of the published schema.

    Args:
        study: the study that was read.
        answers: one per task; their attention has one number per slice of the study.
        study_key: name of the study in files and tables, free of patient identifiers.
        seconds: wall time by step; ``total`` is added as their sum where it is missing.
        device: what ran the network, for example ``"cpu"``.
        identifiers: add study, series and SOP instance UIDs and the source path. Without it nothing from the
            DICOM header but geometry reaches the document.

    Returns:
        A document of plain lists, dicts, strings and numbers that passes ``validate_result``.

    Raises:
        ResultError: answers and study do not belong together, or a number is out of range.
    """
    n_slices = _checked_slice_count(study, answers)
    uids = study.sop_instance_uids
    private = {study.series.series_uid, study.series.study_uid, *uids, *path_names(study.path)}

    def text(sentence: str) -> str:
        return sentence if identifiers else redact(sentence, private=private)

    findings = [
        {
            "code": f.code,
            "severity": f.severity,
            "message": text(f.message),
            "slices": [int(i) for i in f.slices],
        }
        for f in study.findings
    ]
    about = {
        "study_key": study_key,
        "series_hash": study.series_hash,
        "series_uid_sha256": hash_uid(study.series.series_uid),
        "source_format": study.series.source_format,
        "series_choice": text(study.series.reason),
        "n_candidate_series": int(study.series.n_candidates),
    }
    if identifiers:
        about["identifiers"] = {
            "study_instance_uid": study.series.study_uid or None,
            "series_instance_uid": study.series.series_uid or None,
            "source_path": None if study.path is None else str(study.path),
        }
    times = {name: round(float(value), 4) for name, value in seconds.items()}
    times.setdefault("total", round(sum(times.values()), 4))
    result = {
        "schema_version": RESULT_SCHEMA_VERSION,
        "intended_use": INTENDED_USE,
        "study": about,
        "geometry": _geometry(study, n_slices),
        "tasks": [_task(answer, study, identifiers=identifiers) for answer in answers],
        "findings": findings,
        "warnings": _warnings(answers, findings),
        "provenance": {
            "radclear_version": __version__,
            "device": device,
            "created_utc": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "seconds": times,
    }
    validate_result(result)
    return result


def _checked_slice_count(study: Study, answers: Sequence[TaskAnswer]) -> int:
    n_slices = int(study.hu.shape[0])
    if len(study.z_mm) != n_slices or len(study.sop_instance_uids) not in (0, n_slices):
        raise ResultError(
            f"the study has {n_slices} slices, {len(study.z_mm)} z positions and "
            f"{len(study.sop_instance_uids)} SOP instance UIDs; expected one of each per slice, or no UIDs."
        )
    if not answers:
        raise ResultError("no answers were given; expected at least one TaskAnswer.")
    names = [answer.task for answer in answers]
    if len(set(names)) != len(names):
        raise ResultError(f"tasks are {names}; expected each once. Write a second result for a second model.")
    for answer in answers:
        if len(answer.attention) != n_slices:
            raise ResultError(
                f"{answer.task}: attention for {len(answer.attention)} slices, but the study has {n_slices}. "
                "Sum the attention over the windows of each slice first."
            )
    return n_slices


def _geometry(study: Study, n_slices: int) -> dict:
    z_mm = [round(float(z), 4) for z in study.z_mm]
    return {
        "n_slices": n_slices,
        "n_rows": int(study.hu.shape[1]),
        "n_columns": int(study.hu.shape[2]),
        "spacing_mm": {axis: round(value, 6) for axis, value in zip("xyz", study.spacing_mm, strict=True)},
        "affine_lps": [[round(float(value), 6) for value in row] for row in np.asarray(study.affine)],
        "slice_z_mm": z_mm,
        "z_range_mm": [min(z_mm), max(z_mm)],
    }


def _task(answer: TaskAnswer, study: Study, *, identifiers: bool) -> dict:
    attention = [round(float(value), 8) for value in answer.attention]
    uids = study.sop_instance_uids
    key_slices = []
    for rank, index in enumerate(answer.key_slices, start=1):
        uid = uids[index] if uids else ""
        entry = {
            "rank": rank,
            "index": index,
            "number": index + 1,
            "z_mm": round(float(study.z_mm[index]), 4),
            "attention": attention[index],
            "sop_instance_uid_sha256": hash_uid(uid),
        }
        if identifiers:
            entry["sop_instance_uid"] = uid or None
        key_slices.append(entry)
    classes = [
        {
            "name": name,
            "label": class_label(answer.task, name),
            "probability": round(probability, 6),
            "operating_point": point,
            "above_operating_point": None if point is None else probability >= point,
        }
        for name, probability, point in zip(
            answer.classes, answer.probabilities, answer.operating_points, strict=True
        )
    ]
    return {
        "task": answer.task,
        "question": task_question(answer.task),
        "kind": answer.kind,
        "calibrated": answer.calibrated,
        "top_class": answer.classes[int(np.argmax(answer.probabilities))],
        "classes": classes,
        "key_slices": key_slices,
        "attention": attention,
        "model": asdict(answer.model),
    }


def _warnings(answers: Sequence[TaskAnswer], findings: Sequence[dict]) -> list[dict]:
    warnings = []
    for answer in answers:
        title = task_title(answer.task)
        if answer.model.demonstration:
            warnings.append(
                {
                    "code": "demonstration_weights",
                    "task": answer.task,
                    "message": f"{title}: the weights only demonstrate the software. "
                    "The answer says nothing about a patient.",
                }
            )
        if not answer.calibrated:
            warnings.append(
                {
                    "code": "uncalibrated",
                    "task": answer.task,
                    "message": f"{title}: the scores are not calibrated. "
                    "Use them to rank, not as probabilities.",
                }
            )
    warnings += [_unlike_training(answer) for answer in answers if answer.unlike_training]
    warnings += [
        {"code": f["code"], "task": None, "message": f["message"] or f["code"]}
        for f in findings
        if f["severity"] == "warning"
    ]
    return warnings


def _unlike_training(answer: TaskAnswer) -> dict:
    return {
        "code": "unlike_training",
        "task": answer.task,
        "message": f"{task_title(answer.task)}: the images look unlike those that the weights were trained "
        f"on (distance {answer.domain_distance:.1f}, usual up to {answer.domain_limit:.1f}). "
        "The answer may be wrong however sure it sounds.",
    }
