"""A folder of studies through several heads: each answered and written, none stopped by another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from radclear.backbones import resolve_precision
from radclear.bundle.loaded import Head
from radclear.bundle.location import BundleError
from radclear.bundle.predict import StudyPrediction, predict_study, timed
from radclear.bundle.run_record import StudyRun, run_key
from radclear.bundle.run_report import RunReport
from radclear.cohort.store import EmbeddingStore
from radclear.ct import StudySource
from radclear.results import write_result

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]


def predict_folder(
    input: str | Path,
    output: str | Path,
    heads: Sequence[Head],
    *,
    policy: str = "warn",
    series: str | None = None,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    batch_size: int = 8,
    embeddings: str | Path | None = None,
    resume: bool = True,
    identifiers: bool = False,
    progress: Progress | None = None,
) -> RunReport:
    """Answer the heads' questions about every study of a folder.

    Writes `<output>/<study key>/result.json` and `report.html` per study, `<output>/summary.csv` and
    `<output>/manifest.json`. A study that fails is reported and does not stop the others.

    Args:
        input: one study, or a folder of many.
        output: folder for the results.
        heads, policy, series, device, precision, batch_size: see `predict_study`.
        embeddings: folder of an embedding store to read from and write to.
        resume: skip studies whose files, weights, configuration and options are those of their present
            result.
        identifiers: write UIDs, names and paths into the outputs.
        progress: called with (studies settled, all studies, text).

    Returns:
        What was done, skipped, and failed; `exit_code` is 1 where a study failed.
    """
    if not heads:
        raise BundleError("no head was given; load at least one with radclear.bundle.load_head")
    if not Path(input).exists():
        raise BundleError(f"{input} does not exist; expected a study, or a folder of studies")
    used = str(resolve_precision(precision, device)).removeprefix("torch.")
    models = [vars(head.provenance(precision=used)) for head in heads]
    options = {"policy": policy, "series_chosen_by_user": series is not None, "precision": used}
    run = StudyRun(
        input,
        output,
        key=run_key(models, policy, series, used, identifiers),
        page="report",
        settings=options,
        device=str(torch.device(device)),
        demonstration=any(head.demonstration for head in heads),
        resume=resume,
        identifiers=identifiers,
    )
    if not run.sources:
        raise BundleError(f"no study found in {input}; expected DICOM files, or a NIfTI, NRRD or MHA file")
    store = EmbeddingStore(embeddings) if embeddings is not None else None
    total, settled = len(run.sources), len(run.sources) - len(run.pending)
    for source in run.pending:
        if progress is not None:
            progress(settled, total, source.key)
        try:
            prediction = predict_study(
                source, heads, policy=policy, series=series, device=device, precision=precision,
                batch_size=batch_size, store=store, identifiers=identifiers,
            )  # fmt: skip
            write_prediction(run, source, prediction)
        except Exception as error:  # whatever is wrong with one study, the others go on
            run.fail(source, error)
            logger.debug("%s", source.key, exc_info=True)
        settled += 1
    if progress is not None:
        progress(settled, total, "studies")
    return run.finish()


def write_prediction(run: StudyRun, source: StudySource, prediction: StudyPrediction) -> None:
    """Write the result files of a study and note it as done; see `StudyRun.refuse_other_study`."""
    series_hash = prediction.study.series_hash
    run.refuse_other_study(source, series_hash=series_hash)
    seconds = dict(prediction.seconds)
    with timed(seconds, "write"):
        document, page = write_result(
            prediction.result, run.folder(source), stem=run.stem, study=prediction.study
        )
        if run.page != run.stem:
            page = page.replace(page.with_name(f"{run.page}{page.suffix}"))
    run.done(
        source, seconds=seconds, series_hash=series_hash, result=prediction.result, files=(document, page)
    )
