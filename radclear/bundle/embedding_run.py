"""The books of a run that fills an embedding store, instead of a folder of results."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radclear.bundle.run_record import StudyRun, run_key
from radclear.bundle.run_report import RunReport, StudyRecord
from radclear.cohort.store import EmbeddingStore
from radclear.ct import StudySource
from radclear.results import write_atomically

logger = logging.getLogger(__name__)


class EmbeddingRun(StudyRun):
    """The bookkeeping of a run that fills an embedding store; what is done is what the store has."""

    def __init__(
        self,
        dataset_dir: str | Path,
        output_dir: str | Path,
        *,
        attributes: Mapping[str, Any],
        **options: Any,
    ) -> None:
        """
        Args:
            dataset_dir, output_dir, options: as in `StudyRun`; the output folder is the store.
            attributes: what embeddings depend on besides the study, see `EmbeddingStore.has`.
        """
        super().__init__(dataset_dir, output_dir, key=run_key(repr(sorted(attributes.items()))), **options)
        self.attributes = dict(attributes)
        self.store = EmbeddingStore(output_dir)

    def done(self, source: StudySource, *, seconds: Mapping[str, float], **_: Any) -> None:
        """Note that a study is in the store."""
        self._done.append(StudyRecord(source.key, source.name, seconds=dict(seconds)))
        logger.info("%s done in %.1f s", source.key, sum(seconds.values()))

    def _record_of_before(self, source: StudySource) -> StudyRecord | None:
        if self.store.has(source.key, fingerprint=source.fingerprint, **self.attributes):
            return StudyRecord(source.key, source.name)
        return None

    def _write_tables(self, records: Sequence[tuple[StudyRecord, str]], report: RunReport) -> None:
        text = io.StringIO()
        columns = [
            "study_key",
            "status",
            "file",
            "seconds",
            "reason",
            *(["name"] if self.identifiers else []),
        ]
        writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for record, status in records:
            writer.writerow(
                {
                    "study_key": record.key,
                    "status": status,
                    "file": "" if status == "failed" else self.store.path(record.key).name,
                    "seconds": f"{sum(record.seconds.values()):.2f}",
                    "reason": record.reason,
                    "name": record.name,
                }
            )
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(self.output_dir / f"{self.prefix}summary.csv", text.getvalue().encode("utf-8"))
