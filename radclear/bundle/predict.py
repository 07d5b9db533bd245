"""One study through several heads: read once, embedded once per backbone, answered by each head."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from radclear.backbones import embed_slices, resolve_precision, told_when_memory_is_short
from radclear.bundle.loaded import Head
from radclear.bundle.location import BundleError
from radclear.cohort.same_study import study_identity
from radclear.cohort.store import EmbeddingStore, instance_coords
from radclear.ct import Study, StudySource, find_studies, read_study, slice_stack
from radclear.results import TaskAnswer, build_result

STAGES = ("read", "window", "embed", "aggregate")


@dataclass(frozen=True)
class StudyPrediction:
    """What several heads say about one study.

    Attributes:
        study: as it was read.
        answers: one per head, in their order.
        result: the result document, see `radclear.results.build_result`.
        seconds: time by stage of `STAGES`.
    """

    study: Study
    answers: tuple[TaskAnswer, ...]
    result: dict[str, Any]
    seconds: dict[str, float]


def predict_study(
    source: str | Path | StudySource,
    heads: Sequence[Head],
    *,
    policy: str = "warn",
    series: str | None = None,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    batch_size: int = 8,
    store: EmbeddingStore | None = None,
    identifiers: bool = False,
) -> StudyPrediction:
    """Answer the heads' questions about one study.

    Args:
        source: path of the study, or one of `radclear.ct.find_studies`.
        heads: from `load_head`; heads over the same backbone weights and windows share one embedding pass.
        policy: `warn` or `strict`, see `radclear.ct.read_study`.
        series: SeriesInstanceUID to read where there are several.
        device: where the backbone computes.
        precision: of the backbone, see `radclear.backbones.resolve_precision`.
        batch_size: slices per forward pass.
        store: keeps embeddings between runs, where given.
        identifiers: see `radclear.results.build_result`.

    Returns:
        Study, answers, result document, seconds.

    Raises:
        radclear.ct.CTInputError: the study cannot be read or is refused.
    """
    if not heads:
        raise BundleError("no head was given; load at least one with radclear.bundle.load_head")
    source = source if isinstance(source, StudySource) else _single_source(source)
    seconds = dict.fromkeys(STAGES, 0.0)
    with timed(seconds, "read"):
        study = read_study(source.path, series=series, policy=policy)
    used = str(resolve_precision(precision, device)).removeprefix("torch.")
    embeddings: dict[tuple, torch.Tensor] = {}
    answers = []
    for head in heads:
        key = (head.backbone.weights_sha256, head.windows, head.image_size)
        if key not in embeddings:
            embeddings[key] = _embed(
                study, source, head, seconds, store=store, device=device, precision=precision,
                batch_size=batch_size
            )  # fmt: skip
        with timed(seconds, "aggregate"):
            answers.append(aggregate(head, embeddings[key], precision=used))
    result = build_result(
        study,
        answers,
        study_key=source.key,
        seconds=seconds,
        device=str(torch.device(device)),
        identifiers=identifiers,
    )
    return StudyPrediction(study, tuple(answers), result, seconds)


def _embed(
    study: Study,
    source: StudySource,
    head: Head,
    seconds: dict[str, float],
    *,
    store: EmbeddingStore | None,
    device: str | torch.device,
    precision: str,
    batch_size: int,
) -> torch.Tensor:
    """(Z·W, d) embeddings of a study for a head's backbone, from the store where it has them."""
    attributes = {
        "encoder": head.backbone.backbone.name,
        "weight_sha256": head.backbone.weights_sha256,
        "precision": str(resolve_precision(precision, device)).removeprefix("torch."),
        "windows": head.windows,
        "image_size": head.image_size,
        "series_hash": study.series_hash,
    }
    if store is not None and store.has(source.key, **attributes):
        with timed(seconds, "embed"):
            return store.read(source.key).feats
    with timed(seconds, "window"):
        slices = slice_stack(study, windows=head.windows, size=head.image_size)
    with timed(seconds, "embed"):
        feats = embed_slices(
            head.backbone.backbone, slices, device=device, precision=precision, batch_size=batch_size
        )
    if store is not None:
        warnings = tuple(finding.code for finding in study.findings if finding.severity == "warning")
        coords = instance_coords(study.z_mm, len(head.windows))
        identity = study_identity(source, series_hash=study.series_hash)
        store.write(source.key, feats, coords, {**attributes, **identity, "warnings": warnings})
    return feats


def aggregate(head: Head, feats: torch.Tensor, *, precision: str) -> TaskAnswer:
    """The answer of a head from the (Z·W, d) embeddings of a study; `precision` is the encoder's."""
    device = next(head.aggregator.parameters()).device
    with torch.inference_mode(), told_when_memory_is_short(f"a bag of {len(feats)} embeddings", device):
        logits = head.aggregator.eval()(feats.unsqueeze(0).to(device), None)
        return head.answer(head.probabilities(logits), head.aggregator.attention, feats, precision=precision)


def _single_source(path: str | Path) -> StudySource:
    sources = find_studies(path)
    if len(sources) != 1:
        raise BundleError(
            f"{path} holds {len(sources)} studies, expected one; use predict_folder for a folder of studies"
        )
    return sources[0]


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the seconds that the block takes to those of a stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
