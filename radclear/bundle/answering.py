"""Answers to one study after another, question by question: a study is read and embedded once for all heads.

For whoever is asked interactively, such as a server. Embeddings are kept in memory under the series' hash and
the backbone's weights, the longest unused are dropped, and of two callers who want the same embeddings at the
same time one computes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from radclear.backbones import embed_slices, resolve_precision
from radclear.bundle.loaded import Head
from radclear.bundle.predict import StudyPrediction, aggregate
from radclear.bundle.sharing import KeyedLocks, RecentValues
from radclear.ct import Study, StudySource, read_study, slice_stack
from radclear.ct.read import DEFAULT_CAP_BYTES
from radclear.results import build_result

DEFAULT_CACHE_BYTES = 256 * 2**20
_MOST_STUDIES = 1000  # whose geometry is remembered; some kilobytes each


@dataclass(frozen=True)
class _Embeddings:
    feats: torch.Tensor  # (Z·W, d) float32 on the CPU
    notes: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        return self.feats.numel() * self.feats.element_size()


class StudyAnswers:
    """Studies and the embeddings that heads share. Safe under concurrent calls."""

    def __init__(
        self,
        *,
        device: str | torch.device = "cpu",
        precision: str = "auto",
        batch_size: int = 8,
        policy: str = "warn",
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        memory_cap_bytes: int = DEFAULT_CAP_BYTES,
    ) -> None:
        """
        Args:
            device: where backbones compute.
            precision: see `radclear.backbones.resolve_precision`.
            batch_size: slices per forward pass; halved where memory does not suffice, and the answer says so.
            policy: `warn` or `strict`, see `radclear.ct.read_study`.
            cache_bytes: most memory for embeddings that are kept; 0 keeps none.
            memory_cap_bytes: see `radclear.ct.read_study`.
        """
        self.device = torch.device(device)
        self.precision = precision
        self.batch_size = batch_size
        self.policy = policy
        self.memory_cap_bytes = memory_cap_bytes
        self._studies: RecentValues[Study] = RecentValues(_MOST_STUDIES, size=lambda study: 1)
        self._embeddings: RecentValues[_Embeddings] = RecentValues(cache_bytes, size=lambda e: e.n_bytes)
        self._locks = KeyedLocks()

    @property
    def kept_bytes(self) -> int:
        """Memory of the embeddings that are kept."""
        return self._embeddings.total

    def answer(
        self, source: StudySource, head: Head, *, series: str | None = None, identifiers: bool = False
    ) -> tuple[StudyPrediction, tuple[str, ...]]:
        """One head's answer to one study.

        Args:
            source: the study.
            head: whose question it is.
            series: SeriesInstanceUID to read where there are several.
            identifiers: see `radclear.results.build_result`.

        Returns:
            The prediction, whose study has no pixels (see `Study.without_pixels`), and notes for whoever
            asked, for example that memory was short.

        Raises:
            radclear.ct.CTInputError: the study cannot be read or is refused.
            radclear.backbones.errors.DeviceMemoryError: not one slice fits the device.
        """
        seconds: dict[str, float] = {}
        study, embeddings = self._embedded(source, head, series, seconds)
        start = time.perf_counter()
        used = str(resolve_precision(self.precision, self.device)).removeprefix("torch.")
        with self._locks.held(("head", id(head))):  # a head keeps the attention of its last call
            answer = aggregate(head, embeddings.feats, precision=used)
        seconds["aggregate"] = time.perf_counter() - start
        result = build_result(
            study,
            [answer],
            study_key=source.key,
            seconds=seconds,
            device=str(self.device),
            identifiers=identifiers,
        )
        return StudyPrediction(study, (answer,), result, seconds), embeddings.notes

    def look(self, source: StudySource, head: Head, use: Callable[[torch.Tensor], Any]) -> Any:
        """What a function makes of the embeddings that the head would answer from.

        Args:
            source, head: as in `answer`, errors too.
            use: called with (Z·W, d) float32, while nobody else uses the head.
        """
        feats = self._embedded(source, head, None, {})[1].feats
        with self._locks.held(("head", id(head))):  # a head keeps the attention of its last call
            return use(feats)

    def _embedded(
        self, source: StudySource, head: Head, series: str | None, seconds: dict[str, float]
    ) -> tuple[Study, _Embeddings]:
        place = (str(source.path), source.fingerprint, series)
        encoder = (head.backbone.weights_sha256, head.windows, head.image_size)
        with self._locks.held(("place", place)):
            study = self._studies.get(place)
            kept = study and self._embeddings.get((study.series_hash, encoder))
            if kept:
                return study, kept
            start = time.perf_counter()
            study = read_study(
                source.path, series=series, policy=self.policy, memory_cap_bytes=self.memory_cap_bytes
            )
            light = study.without_pixels()
            self._studies.put(place, light)
            seconds["read"] = time.perf_counter() - start
            key = (study.series_hash, encoder)
            with self._locks.held(("series", key)):  # the same series may lie at two places
                kept = self._embeddings.get(key)
                if kept is None:
                    kept = self._embed(study, head, seconds)
                    self._embeddings.put(key, kept)
            return light, kept

    def _embed(self, study: Study, head: Head, seconds: dict[str, float]) -> _Embeddings:
        notes: list[str] = []

        def smaller(size: int) -> None:
            notes[:] = [
                f"the memory of {self.device} did not hold {self.batch_size} slices at once; they were "
                f"embedded {size} at a time, which takes longer and changes no answer"
            ]

        start = time.perf_counter()
        slices = slice_stack(study, windows=head.windows, size=head.image_size)
        seconds["window"] = time.perf_counter() - start
        start = time.perf_counter()
        with self._locks.held("device"):  # two passes at once would need twice the memory
            feats = embed_slices(
                head.backbone.backbone,
                slices,
                device=self.device,
                precision=self.precision,
                batch_size=self.batch_size,
                on_smaller_batch=smaller,
            )
        seconds["embed"] = time.perf_counter() - start
        return _Embeddings(feats, tuple(notes))
