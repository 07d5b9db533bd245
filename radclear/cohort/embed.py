"""Fill an embedding store: read, window, embed and write every study of a cohort once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from radclear.backbones import embed_slices, resolve_precision
from radclear.cohort.embedded_study import EmbeddingStoreError, instance_coords
from radclear.cohort.reasons import describe
from radclear.cohort.same_study import is_other_study, study_identity
from radclear.cohort.store import EmbeddingStore
from radclear.ct import DEFAULT_WINDOWS, StudySource, Window, read_study, slice_stack

logger = logging.getLogger(__name__)

STAGES = ("read", "window", "embed", "write")


@dataclass
class EmbedReport:
    """What became of each study.

    Attributes:
        done: keys embedded in this run.
        skipped: keys whose embeddings were there already, or that another process made meanwhile.
        failed: (key, reason) of studies that could not be embedded. No reason names a patient or a path; the
            names are in `names`.
        names: key → name of the study, as the user knows it.
        seconds: stage of `STAGES` → seconds of this run. Reading goes on beside embedding, so the sum may
            exceed the wall time.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))


@dataclass
class _Loaded:
    """A study on its way; at most one of these waits while another is embedded."""

    source: StudySource
    outcome: str = "ready"  # then "done"; or "there", "busy", "failed"
    reason: str = ""
    claim: ExitStack = field(default_factory=ExitStack)
    slices: torch.Tensor | None = None  # (W, Z, S, S) uint8
    coords: np.ndarray | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Embedder:
    """The two halves of the work on a study: `load` for the reading thread, `settle` for the main one."""

    backbone: nn.Module
    store: EmbeddingStore
    windows: tuple[Window, ...]
    device: str | torch.device
    precision: str
    batch_size: int
    policy: str
    provenance: dict[str, Any]

    def load(self, source: StudySource, wait: bool) -> _Loaded:
        loaded = _Loaded(source, attributes={**self.provenance, "fingerprint": source.fingerprint})
        expected = loaded.attributes | ({"warnings": ()} if self.policy == "strict" else {})
        try:
            if self.store.has(source.key, **expected):
                loaded.outcome = "there"
            elif not loaded.claim.enter_context(self.store.claim(source.key, wait=wait)):
                loaded.outcome = "busy"
            elif self.store.has(source.key, **expected):  # made by another process since we looked
                loaded.outcome = "there"
            else:
                self._read(loaded)
        except Exception as error:  # whatever is wrong with one study, the others go on
            loaded.outcome, loaded.reason = "failed", self._describe(error, loaded)
        if loaded.outcome != "ready":
            loaded.claim.close()
        return loaded

    def _read(self, loaded: _Loaded) -> None:
        start = time.perf_counter()
        study = read_study(loaded.source.path, policy=self.policy)
        loaded.attributes |= study_identity(loaded.source, series_hash=study.series_hash)
        self._refuse_other_study(loaded)
        loaded.attributes["warnings"] = tuple(f.code for f in study.findings if f.severity == "warning")
        loaded.coords = instance_coords(study.z_mm, len(self.windows))
        loaded.seconds["read"] = time.perf_counter() - start
        start = time.perf_counter()
        loaded.slices = slice_stack(study, windows=self.windows, size=self.provenance["image_size"])
        loaded.seconds["window"] = time.perf_counter() - start

    def _refuse_other_study(self, loaded: _Loaded) -> None:
        key = loaded.source.key
        identity = study_identity(loaded.source, series_hash=loaded.attributes["series_hash"])
        if self.store.path(key).exists() and is_other_study(self.store.attributes(key), identity):
            raise EmbeddingStoreError(
                "the embeddings of another study of the same name are here; use another folder for the "
                f"store, or delete {self.store.path(key).name} in it"
            )

    def _describe(self, error: Exception, loaded: _Loaded) -> str:
        return describe(error, source=loaded.source, folder=self.store.folder)

    def settle(self, loaded: _Loaded) -> None:
        with loaded.claim:
            start = time.perf_counter()
            try:
                feats = embed_slices(
                    self.backbone,
                    loaded.slices,
                    device=self.device,
                    precision=self.precision,
                    batch_size=self.batch_size,
                )
            except Exception as error:
                loaded.outcome, loaded.reason = "failed", self._describe(error, loaded)
                return
            loaded.seconds["embed"] = time.perf_counter() - start
            start = time.perf_counter()
            try:
                self.store.write(loaded.source.key, feats, loaded.coords, loaded.attributes)
                loaded.outcome = "done"
            except EmbeddingStoreError as error:  # a full disk, an OSError, does stop the run
                loaded.outcome, loaded.reason = "failed", self._describe(error, loaded)
            loaded.seconds["write"] = time.perf_counter() - start


def embed_studies(
    sources: Sequence[StudySource],
    backbone: nn.Module,
    store: EmbeddingStore,
    *,
    weight_sha256: str,
    encoder: str,
    windows: Sequence[Window] = DEFAULT_WINDOWS,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    batch_size: int = 8,
    policy: str = "warn",
    progress: Callable[[int, int], None] | None = None,
) -> EmbedReport:
    """Embed the studies whose embeddings are not in the store yet.

    A study counts as there when source files, weights, encoder, windows, precision and image size are the
    same. A study that fails is reported and does not stop the others. Several processes may fill one store:
    each study is embedded by one of them, and this call returns when every study is settled.

    Args:
        sources: from `radclear.ct.find_studies`.
        backbone: see `radclear.backbones.build`; its `image_size` is the side of the slices.
        store: where the embeddings go.
        weight_sha256: of the backbone's weights, as provenance.
        encoder: name of the backbone, as provenance.
        windows: CT windows, each an instance per slice.
        device: torch device of the backbone.
        precision: see `radclear.backbones.resolve_precision`; what it resolves to is stored.
        batch_size: slices per forward pass.
        policy: `"warn"` or `"strict"`, see `radclear.ct.read_study`; a strict run reads studies again that
            were stored with warnings.
        progress: called with (settled studies, all studies).

    Returns:
        What became of each study.
    """
    provenance = {
        "encoder": encoder,
        "weight_sha256": weight_sha256,
        "precision": str(resolve_precision(precision, device)).removeprefix("torch."),
        "windows": tuple(windows),
        "image_size": int(backbone.image_size),
    }
    embedder = _Embedder(backbone, store, tuple(windows), device, precision, batch_size, policy, provenance)
    report = EmbedReport(names={source.key: source.name for source in sources})
    store.clean()
    left = _without_name_clashes(sources, report)
    for wait in (False, True):  # first what is free, then what other processes were working on
        busy = []
        with closing(_read_ahead(embedder.load, left, wait)) as studies:
            for loaded in studies:
                if loaded.outcome == "busy":
                    busy.append(loaded.source)
                    continue
                if loaded.outcome == "ready":
                    embedder.settle(loaded)
                _enter(report, loaded)
                if progress is not None:
                    progress(len(report.done) + len(report.skipped) + len(report.failed), len(sources))
        left = busy
    return report


def _enter(report: EmbedReport, loaded: _Loaded) -> None:
    key = loaded.source.key
    for stage, seconds in loaded.seconds.items():
        report.seconds[stage] += seconds
    if loaded.outcome == "done":
        report.done.append(key)
    elif loaded.outcome == "there":
        report.skipped.append(key)
    else:
        logger.info("%s failed", key)  # the reason is in the report, which whoever runs this shows
        report.failed.append((key, loaded.reason))


def _without_name_clashes(sources: Sequence[StudySource], report: EmbedReport) -> list[StudySource]:
    """Sources of which no two would be written to one file; the others are entered as failed."""
    first: dict[str, StudySource] = {}
    for source in sources:
        if first.setdefault(source.key, source).path != source.path:
            reason = "two studies have the same name: embed the folder above them, or into two stores"
            _enter(report, _Loaded(source, outcome="failed", reason=reason))
    return [source for source in sources if first[source.key].path == source.path]


def _read_ahead(
    load: Callable[[StudySource, bool], _Loaded], sources: Sequence[StudySource], wait: bool
) -> Iterator[_Loaded]:
    """Load study i + 1 in one thread while study i is used."""
    if not sources:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-study") as pool:
        ahead = pool.submit(load, sources[0], wait)
        try:
            for source in [*sources[1:], None]:
                loaded = ahead.result()
                ahead = None if source is None else pool.submit(load, source, wait)
                yield loaded
        finally:
            if ahead is not None and not ahead.cancel():
                ahead.result().claim.close()
