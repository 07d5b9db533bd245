"""What a run over many studies leaves behind: one table of answers, one manifest of what was run."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from radclear import __version__
from radclear.privacy import path_names, redact
from radclear.results.answer import ResultError
from radclear.results.write import encode_json, write_atomically

MANIFEST_VERSION = "1.0"
STATUSES = ("ok", "skipped", "failed")
_PACKAGES = ("h5py", "monai", "numpy", "pydicom", "torch")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

_FIRST_COLUMNS = (
    "study_key",
    "task",
    "status",
    "top_class",
    "top_probability",
    "calibrated",
    "positive_classes",
    "key_slices",
    "key_slices_z_mm",
    "n_findings",
    "n_warnings",
    "demonstration",
    "seconds",
    "reason",
)


@dataclass(frozen=True)
class StudyOutcome:
    """How one study of a run ended.

    Attributes:
        study_key: its name in files and tables.
        status: ``"ok"``, ``"skipped"`` (a result was there already) or ``"failed"``.
        result: its document; missing where it failed.
        reason: why it failed or was skipped, in one sentence.
        seconds: wall time spent on it in this run.
        name: where it was found, relative to the input; written only where identifiers are asked for.
    """

    study_key: str
    status: str
    result: dict | None = None
    reason: str = ""
    seconds: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ResultError(f"{self.study_key}: status is {self.status!r}; expected one of {STATUSES}.")
        if self.status == "failed" and not self.reason:
            raise ResultError(
                f"{self.study_key}: failed without a reason; expected one sentence that names the cause."
            )
        if self.status == "ok" and self.result is None:
            raise ResultError(f"{self.study_key}: status is 'ok' without a result; expected its document.")

    def shown_reason(self, *, identifiers: bool = False) -> str:
        """The reason on one line, without what could name a patient unless asked."""
        reason = " ".join(self.reason.split())
        return reason if identifiers else redact(reason, private=path_names(self.name))


def write_summary(path: str | Path, outcomes: Iterable[StudyOutcome], *, identifiers: bool = False) -> Path:
    """Write the table of a run as CSV: one row per study and task, one row for a study that failed.

    After the fixed columns comes ``probability_<class>`` for every class of every task, empty where a row's
    task does not have the class. Key slices are numbers from 1, the most attended first, separated by spaces.

    Args:
        path: the CSV file to write, atomically.
        outcomes: one per study, in the order of the rows.
        identifiers: add a column ``name`` with where each study was found, and leave reasons as they are.

    Returns:
        The path.
    """
    rows = [row for outcome in outcomes for row in _rows(outcome, identifiers=identifiers)]
    classes = dict.fromkeys(column for row in rows for column in row if column.startswith("probability_"))
    columns = [*_FIRST_COLUMNS, *classes, *(["name"] if identifiers else [])]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode("utf-8"))
    return path


def write_manifest(
    path: str | Path,
    outcomes: Sequence[StudyOutcome],
    *,
    config_sha256: str,
    started_utc: datetime,
    exit_code: int | None = None,
    device: str | None = None,
    settings: Mapping[str, object] | None = None,
    identifiers: bool = False,
) -> Path:
    """Write what was run and how it ended as JSON.

    Args:
        path: the JSON file to write, atomically.
        outcomes: one per study.
        config_sha256: sha256 of the configuration of the run.
        started_utc: when the run began, with its time zone.
        exit_code: what the process returns; 1 where a study failed and 0 otherwise when omitted.
        device: what ran the networks.
        settings: options worth keeping, for example precision and windows; no paths.
        identifiers: say where each study was found, and leave reasons as they are.

    Returns:
        The path.
    """
    counts = {status: sum(o.status == status for o in outcomes) for status in STATUSES}
    studies = []
    for outcome in outcomes:
        entry = {
            "study_key": outcome.study_key,
            "status": outcome.status,
            "reason": outcome.shown_reason(identifiers=identifiers),
            "seconds": outcome.seconds,
        }
        if identifiers:
            entry["name"] = outcome.name
        studies.append(entry)
    models = {}
    for outcome in outcomes:
        for task in (outcome.result or {}).get("tasks", ()):
            models.setdefault(
                (task["task"], *task["model"].values()), {"task": task["task"], **task["model"]}
            )
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "radclear_version": __version__,
        "python_version": sys.version.split()[0],
        "packages": _installed(),
        "config_sha256": config_sha256,
        "settings": dict(settings or {}),
        "device": device,
        "started_utc": _utc(started_utc),
        "finished_utc": _utc(datetime.now(timezone.utc)),
        "counts": {"total": len(outcomes), **counts},
        "exit_code": (1 if counts["failed"] else 0) if exit_code is None else int(exit_code),
        "models": list(models.values()),
        "studies": studies,
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, encode_json(manifest))
    return path


def _rows(outcome: StudyOutcome, *, identifiers: bool) -> list[dict]:
    common = {
        "study_key": outcome.study_key,
        "status": outcome.status,
        "reason": outcome.shown_reason(identifiers=identifiers),
    }
    if outcome.seconds is not None:
        common["seconds"] = f"{outcome.seconds:.2f}"
    if identifiers:
        common["name"] = outcome.name
    if outcome.result is None:
        return [common]
    result = outcome.result
    common |= {"n_findings": len(result["findings"]), "n_warnings": len(result["warnings"])}
    if outcome.seconds is None:
        common["seconds"] = f"{result['seconds']['total']:.2f}"
    rows = []
    for task in result["tasks"]:
        row = common | {
            "task": task["task"],
            "top_class": task["top_class"],
            "top_probability": f"{max(entry['probability'] for entry in task['classes']):.4f}",
            "calibrated": _yes(task["calibrated"]),
            "positive_classes": " ".join(e["name"] for e in task["classes"] if e["above_operating_point"]),
            "key_slices": " ".join(str(key["number"]) for key in task["key_slices"]),
            "key_slices_z_mm": " ".join(f"{key['z_mm']:.1f}" for key in task["key_slices"]),
            "demonstration": _yes(task["model"]["demonstration"]),
        }
        row |= {f"probability_{entry['name']}": f"{entry['probability']:.4f}" for entry in task["classes"]}
        rows.append(row)
    return rows


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _cell(value: object) -> object:
    """Text that a spreadsheet would run as a formula gets a quote in front; numbers stay numbers."""
    if not isinstance(value, str) or not value.startswith(_FORMULA_STARTS):
        return value
    try:
        [float(number) for number in value.split(" ")]
    except ValueError:
        return "'" + value
    return value


def _utc(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ResultError(
            f"started_utc is {moment.isoformat()} without a time zone; use datetime.now(timezone.utc)."
        )
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _installed() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
