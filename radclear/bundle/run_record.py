"""The books of a run over a folder of studies: what is left, what is done, what failed and why.

Each finished study leaves a small file `<stem>.done.json` beside its result, written last. It names the
input's fingerprint and the run's key (weights, configuration, options); a later run skips the study while
both are equal. Nothing else is shared between studies, so a killed run loses at most the study it was in.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from radclear import __version__
from radclear.bundle.location import BundleError
from radclear.bundle.run_report import RunReport, StudyRecord, write_tables
from radclear.cohort.same_study import is_other_study, study_identity
from radclear.ct import StudySource, find_studies
from radclear.errors import RadclearError
from radclear.privacy import path_names, redact
from radclear.results import write_atomically

logger = logging.getLogger(__name__)


def run_key(*parts: Any) -> str:
    """A hash over what a result depends on besides the study: weights, configuration, options, software."""
    return hashlib.sha256(json.dumps([__version__, *parts], sort_keys=True, default=str).encode()).hexdigest()


class StudyRun:
    """The books of one run: `pending` first, then `done` or `fail` for each study, `finish` at the end."""

    def __init__(
        self,
        dataset_dir: str | Path,
        output_dir: str | Path,
        *,
        key: str,
        stem: str = "result",
        page: str | None = None,
        prefix: str = "",
        settings: Mapping[str, Any] | None = None,
        device: str | None = None,
        demonstration: bool = False,
        resume: bool = True,
        identifiers: bool = False,
    ) -> None:
        """
        Args:
            dataset_dir: one study, or a folder of many.
            output_dir: where results go, one subfolder per study.
            key: see `run_key`.
            stem: name of a study's result document without suffix.
            page: name of its page without suffix; the stem when omitted.
            prefix: of the names of the tables at the end, `<prefix>summary.csv` and `<prefix>manifest.json`.
            settings: options worth keeping in the manifest.
            device: what runs the networks, for the manifest.
            demonstration: whether the weights in use are for demonstration only.
            resume: skip studies that are done.
            identifiers: write the studies' names into table and manifest.
        """
        self.dataset_dir = Path(dataset_dir)
        self.output_dir = Path(output_dir)
        self.key = key
        self.stem = stem
        self.page = page or stem
        self.prefix = prefix
        self.settings = dict(settings or {})
        self.device = device
        self.demonstration = demonstration
        self.resume = resume
        self.identifiers = identifiers
        self._sources: list[StudySource] | None = None
        self._pending: list[StudySource] | None = None
        self._done: list[StudyRecord] = []
        self._skipped: list[StudyRecord] = []
        self._failed: list[StudyRecord] = []
        self._started = datetime.now(timezone.utc)

    @property
    def sources(self) -> list[StudySource]:
        """All studies of the input; none, with a warning, where it does not exist."""
        if self._sources is None:
            if self.dataset_dir.exists():
                self._sources = list(find_studies(self.dataset_dir))
            else:
                logger.warning(
                    "dataset_dir %s does not exist, so there is no study to answer", self.dataset_dir
                )
                self._sources = []
        return self._sources

    @property
    def pending(self) -> list[StudySource]:
        """Studies that still have to be done.

        Those that are done go into the report as skipped, those whose earlier result is damaged as failed.
        """
        if self._pending is None:
            self._pending = []
            for source in self.sources:
                try:
                    record = self._record_of_before(source) if self.resume else None
                except RadclearError as error:  # what is there is damaged or is not ours to replace
                    self.fail(source, error)
                    continue
                if record is None:
                    self._pending.append(source)
                else:
                    self._skipped.append(record)
            logger.info("%d studies, %d of them done before", len(self.sources), len(self._skipped))
        return self._pending

    def folder(self, source: StudySource) -> Path:
        """Where the results of a study go."""
        return self.output_dir / source.key

    def refuse_other_study(self, source: StudySource, *, series_hash: str) -> None:
        """Keep the result of another study that has the same name, and so the same key; call before writing.

        Two inputs may both hold a study called `scan`. It is another study if its place, its files and its
        pixels' series are all others than those of the result that is there.

        Args:
            source: the study about to be written.
            series_hash: see `radclear.ct.Study`.

        Raises:
            BundleError: there is a result of another study, and `resume` is on.
        """
        if self.resume and is_other_study(
            self._marker(source), study_identity(source, series_hash=series_hash)
        ):
            raise BundleError(
                "another study of the same name was answered here before; use another output folder, or "
                "replace it (on the command line with --no-resume)"
            )

    def done(
        self,
        source: StudySource,
        *,
        seconds: Mapping[str, float],
        series_hash: str = "",
        result: dict[str, Any] | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        """Note that a study has its result; call after its files are in place.

        Args:
            source: the study.
            seconds: time by stage.
            series_hash: see `radclear.ct.Study`.
            result: the result document.
            files: result files in the study's folder; the study counts as done only while all are there.
        """
        marker = {
            **study_identity(source, series_hash=series_hash),
            "run_key": self.key,
            "files": sorted(path.name for path in files),
            "seconds": {stage: round(value, 4) for stage, value in seconds.items()},
        }
        content = json.dumps(marker, indent=1) + "\n"
        write_atomically(self.folder(source) / f"{self.stem}.done.json", content.encode())
        self._done.append(StudyRecord(source.key, source.name, result=result, seconds=dict(seconds)))
        logger.info("%s done in %.1f s", source.key, sum(seconds.values()))

    def fail(self, source: StudySource, error: BaseException) -> None:
        """Note that a study has no result, and why; the run goes on.

        The log says only which: the reason is in the report, which whoever runs this shows at the end.
        """
        reason = " ".join(str(error).split())
        if not isinstance(error, RadclearError):
            reason = f"{type(error).__name__}: {reason}"
        if not self.identifiers:
            private = [*path_names(source.path), source.name, *Path(source.name).parts, str(self.dataset_dir)]
            reason = redact(reason, private=private)
        self._failed.append(StudyRecord(source.key, source.name, reason=reason))
        logger.info("%s failed", source.key)

    def finish(self) -> RunReport:
        """Write the summary table and the manifest.

        Returns:
            The report; its `exit_code` is what a command should exit with.
        """
        _ = self.pending
        report = RunReport(
            self.output_dir, tuple(self._done), tuple(self._skipped), tuple(self._failed), self.demonstration
        )
        order = {source.key: index for index, source in enumerate(self.sources)}
        records = [
            *((record, "ok") for record in report.done),
            *((record, "skipped") for record in report.skipped),
            *((record, "failed") for record in report.failed),
        ]
        records.sort(key=lambda entry: order[entry[0].key])
        self._write_tables(records, report)
        logger.info(
            "%d done, %d done before, %d failed", *map(len, (report.done, report.skipped, report.failed))
        )
        return report

    def _write_tables(self, records: Sequence[tuple[StudyRecord, str]], report: RunReport) -> None:
        write_tables(
            records,
            report,
            prefix=self.prefix,
            config_sha256=self.key,
            started_utc=self._started,
            device=self.device,
            settings=self.settings,
            identifiers=self.identifiers,
        )

    def _record_of_before(self, source: StudySource) -> StudyRecord | None:
        """The record of a study whose result is there and still holds, else None."""
        folder, marker = self.folder(source), self._marker(source)
        try:
            if marker["fingerprint"] != source.fingerprint or marker["run_key"] != self.key:
                return None
            if not all((folder / name).is_file() for name in marker["files"]):
                return None
            result = json.loads((folder / f"{self.stem}.json").read_text(encoding="utf-8"))
            return StudyRecord(source.key, source.name, result=result, seconds=marker["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _marker(self, source: StudySource) -> dict[str, Any]:
        """What was noted when this key was last done; empty where it was not, or cannot be read."""
        try:
            marker = json.loads((self.folder(source) / f"{self.stem}.done.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return marker if isinstance(marker, dict) else {}
