"""The outcome of a run over a folder of studies, and its tables: summary and manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from radclear.results import StudyOutcome, write_manifest, write_summary


@dataclass(frozen=True)
class StudyRecord:
    """One study of a run.

    Attributes:
        key: name of the study in files and tables, without patient identifiers.
        name: path below the input folder, for the screen only.
        reason: why it failed; empty where it did not.
        result: the result document, where there is one.
        seconds: time by stage, where it was measured.
    """

    key: str
    name: str
    reason: str = ""
    result: dict[str, Any] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunReport:
    """The outcome of a run.

    Attributes:
        output: folder of the results.
        done, skipped, failed: studies answered now, answered before, and not answered.
        demonstration: whether any weights were for demonstration only.
        exit_code: 0 where every study has its result, 1 where some failed.
    """

    output: Path
    done: tuple[StudyRecord, ...]
    skipped: tuple[StudyRecord, ...]
    failed: tuple[StudyRecord, ...]
    demonstration: bool

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0


def write_tables(
    records: Sequence[tuple[StudyRecord, str]],
    report: RunReport,
    *,
    prefix: str,
    config_sha256: str,
    started_utc: datetime,
    device: str | None,
    settings: Mapping[str, Any],
    identifiers: bool,
) -> None:
    """Write `<prefix>summary.csv` and `<prefix>manifest.json` into the folder of the results.

    Args:
        records: studies in the order of the input, with `ok`, `skipped` or `failed`.
        report: of the run.
        prefix: of the files' names.
        config_sha256: what the results depend on.
        started_utc: when the run began.
        device: what ran the networks.
        settings: options worth keeping.
        identifiers: write the studies' names.
    """
    outcomes = [
        StudyOutcome(
            study_key=record.key,
            status=status,
            result=record.result,
            reason=record.reason,
            seconds=round(sum(record.seconds.values()), 3) if status == "ok" else None,
            name=record.name,
        )
        for record, status in records
    ]
    write_summary(report.output / f"{prefix}summary.csv", outcomes, identifiers=identifiers)
    write_manifest(
        report.output / f"{prefix}manifest.json",
        outcomes,
        config_sha256=config_sha256,
        started_utc=started_utc,
        exit_code=report.exit_code,
        device=device,
        settings=settings,
        identifiers=identifiers,
    )
